<?php
// crypt.php encrypt|decrypt CIPHER HEXKEY: standard input to standard output through openssl_encrypt(), with a fixed IV.
[, $verb, $cipher, $key] = $argv;
$data = stream_get_contents(STDIN);
$iv = substr('iviviviviviviviv', 0, openssl_cipher_iv_length($cipher));
$aead = preg_match('/gcm|ccm|ocb|poly1305/i', $cipher);
$tag = '';
if ($verb === 'encrypt') {
    $out = $aead ? openssl_encrypt($data, $cipher, hex2bin($key), OPENSSL_RAW_DATA, $iv, $tag, 'aad', 16)
                 : openssl_encrypt($data, $cipher, hex2bin($key), OPENSSL_RAW_DATA, $iv);
    $out = $out === false ? false : $tag . $out;
} else {
    $out = $aead ? openssl_decrypt(substr($data, 16), $cipher, hex2bin($key), OPENSSL_RAW_DATA, $iv, substr($data, 0, 16), 'aad')
                 : openssl_decrypt($data, $cipher, hex2bin($key), OPENSSL_RAW_DATA, $iv);
}
if ($out === false) {
    while ($line = openssl_error_string()) {
        fwrite(STDERR, $line . "\n");
    }
    exit(1);
}
fwrite(STDOUT, $out);
