#!/usr/bin/python3
"""php: the functions of its extension openssl, and streams."""
import clients

CLIENT = """[, $url, $ca, $cert, $key] = $argv;
$ssl = ["cafile" => $ca, "local_cert" => $cert, "local_pk" => $key];
$page = file_get_contents($url, false, stream_context_create(["ssl" => $ssl]));
if ($page === false)
    exit(1);
echo $page;
"""
SIGN = """[, $key, $data, $out] = $argv;
$key = openssl_pkey_get_private("file://" . $key);
if ($key === false || !openssl_sign(file_get_contents($data), $signature, $key, OPENSSL_ALGO_SHA256)) {
    while ($text = openssl_error_string())
        echo $text, "\\n";
    exit(1);
}
file_put_contents($out, $signature);
"""
PHP = "/usr/bin/php"


class Client(clients.ClientCase):
    program = PHP
    tells = False
    one_file = False      # certificate and key are in it

    def command(self, place):
        service, = place.services
        cert = place.write("both.pem", service.bundle(), 0o600) if self.one_file else service.cert
        return [self.program, "-r", CLIENT, self.url, place.ca, cert, cert if self.one_file else service.key]

    def test_certificate_and_key_in_one_file(self):
        self.one_file = True
        self.check()


class Functions(clients.SignCase):
    program = PHP
    script = ("-r", SIGN)
    types = ("rsa", "p256")      # openssl_sign() cannot do Ed25519


if __name__ == "__main__":
    clients.main()
