#!/usr/bin/python3
"""ruby as a server, with its library openssl."""
import apps

SERVER = """require 'openssl'
require 'socket'
port, cert, key, says = ARGV
context = OpenSSL::SSL::SSLContext.new
context.add_certificate(OpenSSL::X509::Certificate.new(File.read(cert)), OpenSSL::PKey.read(File.read(key)))
server = OpenSSL::SSL::SSLServer.new(TCPServer.new('127.0.0.1', port.to_i), context)
loop do
  begin
    client = server.accept
    while (line = client.gets) && line != "\\r\\n" do end
    client.write("HTTP/1.0 200 OK\\r\\n\\r\\n" + says)
    client.close
  rescue OpenSSL::SSL::SSLError, SystemCallError => e
    warn e.message
  end
end
"""


class Server(apps.ServerCase):
    program = "/usr/bin/ruby"
    http = True

    def command(self, place):
        service, = place.services
        return [self.program, "-e", SERVER, str(service.port), service.cert, service.key, self.says]


if __name__ == "__main__":
    apps.main()
