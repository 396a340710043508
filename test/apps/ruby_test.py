#!/usr/bin/python3
"""ruby: its library openssl, and Net::HTTP with it."""
import clients

CLIENT = """require 'net/http'
url, ca, cert, key = ARGV
url = URI(url)
http = Net::HTTP.new(url.host, url.port)
http.use_ssl = true
http.ca_file = ca
http.cert = OpenSSL::X509::Certificate.new(File.read(cert))
http.key = OpenSSL::PKey.read(File.read(key))
puts http.get('/').body
"""
SIGN = """require 'openssl'
key, data, out = ARGV
pem = File.read(key)
key = OpenSSL::PKey.read(pem)
of = { 'RSA' => OpenSSL::PKey::RSA, 'EC' => OpenSSL::PKey::EC }
[nil, *of.values].each do |form|
  fits = form.nil? || key.is_a?(form)
  begin
    other = form.nil? ? key : form.new(pem)
    raise "#{form} from a key of another type" unless fits && other.private_to_der == key.private_to_der
  rescue OpenSSL::PKey::PKeyError
    raise if fits
  end
end
File.binwrite(out, key.sign(key.oid == 'ED25519' ? nil : 'SHA256', File.binread(data)))
"""
RUBY = "/usr/bin/ruby"


class Client(clients.ClientCase):
    program = RUBY
    script = ("-e", CLIENT)


class PKey(clients.SignCase):
    program = RUBY
    script = ("-e", SIGN)


if __name__ == "__main__":
    clients.main()
