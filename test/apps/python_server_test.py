#!/usr/bin/python3
"""python3 as a server, with its module ssl."""
import apps

SERVER = """import http.server, ssl, sys
port, cert, key, says = sys.argv[1:]
class Page(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(says.encode())
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(cert, key)
server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Page, bind_and_activate=False)
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
server.server_bind()
server.server_activate()
server.serve_forever()
"""


class Server(apps.ServerCase):
    program = "/usr/bin/python3"
    http = True
    tells = False

    def command(self, place):
        service, = place.services
        return [self.program, "-c", SERVER, str(service.port), service.cert, service.key, self.says]


if __name__ == "__main__":
    apps.main()
