# What kmsenv needs of the transit engine, for the key "backup".
# Nowhere "create": with it, encrypt under a mistyped name would make a new key.

# New data keys, made by the server.
path "transit/datakey/plaintext/backup" {
  capabilities = ["update"]
}

path "transit/decrypt/backup" {
  capabilities = ["update"]
}

# New data keys with an encryption context, those of 24 bytes, and wraps in addition to another
# profile's. kmsenv looks whether the key is there before it encrypts.
path "transit/encrypt/backup" {
  capabilities = ["update"]
}

path "transit/keys/backup" {
  capabilities = ["read"]
}

# Moving data keys to the newest version of the key without showing them.
path "transit/rewrap/backup" {
  capabilities = ["update"]
}
