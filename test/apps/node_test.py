#!/usr/bin/python3
"""node: it reads the section nodejs_conf of openssl.cnf and not openssl_conf. Debian's is linked to the system's OpenSSL, that
of its vendor has one of its own inside."""
import clients

CLIENT = """const fs = require('fs');
const [url, ca, cert, key] = process.argv.slice(1);
const files = { ca: fs.readFileSync(ca), cert: fs.readFileSync(cert), key: fs.readFileSync(key) };
require('https').get(url, { ...files, timeout: 15000 }, (reply) => reply.pipe(process.stdout))
    .on('timeout', () => process.exit(1));
"""
SIGN = """const fs = require('fs'), crypto = require('crypto');
const [pem, data, out] = process.argv.slice(1);
const key = crypto.createPrivateKey(fs.readFileSync(pem));
const digest = key.asymmetricKeyType === 'ed25519' ? null : 'sha256';
fs.writeFileSync(out, crypto.sign(digest, fs.readFileSync(data), key));
"""
NODE = "/usr/bin/node"
SECTION = "nodejs_conf = init\n"


class Client(clients.ClientCase):
    program = NODE
    script = ("-e", CLIENT)


class Crypto(clients.SignCase):
    program = NODE
    script = ("-e", SIGN)
    section = True

    def configuration(self, *arguments, **options):
        text = super().configuration(*arguments, **options)
        self.assertIn(SECTION, text)
        return text if self.section else text.replace(SECTION, "")

    def test_without_its_section(self):
        """openssl does know what is in openssl_conf."""
        self.section = False
        place = self.place("tencent", ["p256"])
        self.assert_loaded(place.conf)
        running = self.run_in(place, self.command(place))
        self.assert_down(place, running)
        self.assertIn("unsupported", place.logs())
        self.assertEqual((self.unseals(), place.unsealed(), running.prompt()), (0, 0, ""))
        self.script = ("--openssl-shared-config", *self.script)
        with self.start(place):
            self.assert_works(place)
        self.assertEqual(self.unseals(), 1)


if __name__ == "__main__":
    clients.main()
