# crypt.rb encrypt|decrypt CIPHER HEXKEY: standard input to standard output through OpenSSL::Cipher, with a fixed IV.
require 'openssl'
verb, name, key = ARGV
$stdin.binmode
$stdout.binmode
data = $stdin.read
begin
  c = OpenSSL::Cipher.new(name)
  verb == 'encrypt' ? c.encrypt : c.decrypt
  c.key = [key].pack('H*')
  c.iv = 'iviviviviviviviv'[0, c.iv_len] if c.iv_len > 0
  if c.authenticated?
    if verb == 'decrypt'
      c.auth_tag = data[0, 16]
      data = data[16..]
    end
    c.auth_data = 'aad'
  end
  out = c.update(data) + c.final
  out = c.auth_tag + out if c.authenticated? && verb == 'encrypt'
  $stdout.write(out)
rescue OpenSSL::Cipher::CipherError => e
  warn e.message
  exit 1
end
