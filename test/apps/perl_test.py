#!/usr/bin/python3
"""perl: IO::Socket::SSL as client, and Net::SSLeay, which it is made with."""
import clients

CLIENT = """use strict;
use IO::Socket::SSL;
my ($url, $ca, $cert, $key) = @ARGV;
my ($peer) = $url =~ m{//(.*)/};
my $socket = IO::Socket::SSL->new(PeerAddr => $peer, SSL_ca_file => $ca, SSL_cert_file => $cert,
    SSL_key_file => $key, SSL_verify_mode => SSL_VERIFY_PEER) or die "$!, $SSL_ERROR";
print $socket "GET / HTTP/1.0\\r\\n\\r\\n";
print while <$socket>;
$socket->close or die "$!, $SSL_ERROR";
"""
REQUEST = """use strict;
use Net::SSLeay;
my ($file, undef, $out) = @ARGV;
sub failed { die join("", map { Net::SSLeay::ERR_error_string($_) . "\\n" } Net::SSLeay::ERR_get_error()) }
my $bio = Net::SSLeay::BIO_new_file($file, "r") or failed;
my $key = Net::SSLeay::PEM_read_bio_PrivateKey($bio) or failed;
my $request = Net::SSLeay::X509_REQ_new();
Net::SSLeay::X509_REQ_set_pubkey($request, $key) or failed;
my $digest = Net::SSLeay::EVP_PKEY_id($key) == Net::SSLeay::OBJ_txt2nid("ED25519") ? 0 : Net::SSLeay::EVP_get_digestbyname("sha256");
Net::SSLeay::X509_REQ_sign($request, $key, $digest) or failed;
open(my $request_file, ">", $out) or die $!;
print $request_file Net::SSLeay::PEM_get_string_X509_REQ($request);
"""
PERL = "/usr/bin/perl"


class Client(clients.ClientCase):
    program = PERL
    script = ("-e", CLIENT)


class SSLeay(clients.SignCase):
    """It has no function that signs data, but one that signs certificate requests."""

    program = PERL
    script = ("-e", REQUEST)

    def assert_works(self, place):
        run = self.openssl("req", "-in", place.path("signature"), "-verify", "-noout", "-pubkey", config="/dev/null")
        self.assertEqual((run.returncode, run.stderr), (0, b"Certificate request self-signature verify OK\n"))
        wanted = self.openssl("x509", "-in", place.services[0].plain_cert, "-noout", "-pubkey", config="/dev/null").stdout
        self.assertEqual(run.stdout, wanted)


if __name__ == "__main__":
    clients.main()
