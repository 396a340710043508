#!/usr/bin/python3
"""node as a server. Which section of openssl.cnf it reads: see node_test.py."""
import apps

SERVER = """const fs = require('fs');
const [port, cert, key, says] = process.argv.slice(1);
const files = { cert: fs.readFileSync(cert), key: fs.readFileSync(key) };
require('https').createServer(files, (request, reply) => reply.end(says)).listen(+port, '127.0.0.1');
"""


class Server(apps.ServerCase):
    program = "/usr/bin/node"
    http = True

    def command(self, place):
        service, = place.services
        return [self.program, "-e", SERVER, str(service.port), service.cert, service.key, self.says]


if __name__ == "__main__":
    apps.main()
