/*
 * The message format (version 1) in numbers.
 *
 *   message = header || segment 0 || segment 1 || ...
 *   header  = DER MessageHeader, at most KMSENV_HEADER_MAX bytes
 *   segment = AES-GCM(CEK, nonce = 0^8 || uint32be(index), aad, data || flag) || tag
 *
 * Every segment but the last carries exactly 2^segmentBits bytes of data and the flag
 * KMSENV_FLAG_MORE; the last carries 1..2^segmentBits bytes (0 only in an empty message)
 * and KMSENV_FLAG_LAST. The AAD of segment 0 is DER(MessageParameters) || caller's AAD,
 * that of the others is empty.
 */
#ifndef KMSENV_FORMAT_H
# define KMSENV_FORMAT_H

# define KMSENV_FORMAT_NAME          "kms-envelope"
# define KMSENV_FORMAT_VERSION       1

# define KMSENV_HEADER_MAX           65536   /* bytes of DER */
# define KMSENV_WRAPS_MAX            16      /* in one data key */
# define KMSENV_UNWRAP_TRIES_MAX     8       /* KMS calls for one data key */
# define KMSENV_CIPHERTEXT_MAX       16384   /* bytes of one wrap's ciphertext */
# define KMSENV_NAME_MAX             512     /* bytes of kms, keyId */
# define KMSENV_CONTEXT_PAIRS_MAX    32      /* pairs of an encryption context */
# define KMSENV_CONTEXT_TEXT_MAX     1024    /* bytes of its canonical JSON (the smallest limit of the clouds) */
# define KMSENV_SEALED_KEY_MAX       131072  /* bytes of a sealed key: any header, and a large private key */
# define KMSENV_AAD_MAX              (1024 * 1024) /* bytes of caller's AAD */

# define KMSENV_DEK_ID_LEN           24
# define KMSENV_DEK_LEN_MAX          64
# define KMSENV_SALT_LEN             32
# define KMSENV_COMMITMENT_LEN       32
# define KMSENV_CALLER_KEY_LEN       32
# define KMSENV_CEK_LEN_MAX          32
# define KMSENV_TAG_LEN              16
# define KMSENV_NONCE_LEN            12
# define KMSENV_TRAILER_LEN          (1 + KMSENV_TAG_LEN)  /* flag and tag of a segment */
# define KMSENV_FLAG_MORE            0x00
# define KMSENV_FLAG_LAST            0x01
# define KMSENV_SEGMENT_BITS_MIN     12
# define KMSENV_SEGMENT_BITS_MAX     35

# define KMSENV_DEK_ID_LABEL         "kmsenv data key id"
# define KMSENV_MESSAGE_LABEL        "kmsenv message v1"

# define KMSENV_PEM_DATA_KEY         "KMS DATA KEY"              /* DER DataKey; not secret */
/*
 * DER message whose plaintext is a PKCS#8 PrivateKeyInfo (RFC 5958). The label does not end in "PRIVATE KEY": readers of
 * CA files (PEM_X509_INFO_read_bio) decode what does, and would fail with the KMS.
 */
# define KMSENV_PEM_SEALED_KEY       "KMS SEALED KEY"
# define KMSENV_PEM_LOCAL_MASTER_KEY "KMSENV LOCAL MASTER KEY"   /* raw 32 bytes; secret */

/*
 * Names the public key of a master key (its name, see kmsenv-format(5)) in certificates: an identifier of one's own, under the
 * arc that ITU-T X.667 has for UUIDs; this one is 5011f19c-09d1-44ad-8afc-16b44d85f3b2.
 */
# define KMSENV_OID_MASTER_KEY       "2.25.106431409132734549086712446779119760306"

#endif
