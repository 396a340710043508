#include "cli/doctor.h"
#include "core/error.h"

/* Reasons that a broken installation can give; the others come from messages, not from the setup. */
static const struct { int reason; const char *remedy; } remedies[] = {
    { KMSENV_R_CONFIG_INVALID, "correct the setting in openssl.cnf or its KMSENV_ variable; `kmsenv settings` lists what is accepted" },
    { KMSENV_R_OUT_OF_MEMORY, "raise the memory limit of the process (ulimit -v, or the container's)" },
    { KMSENV_R_CRYPTO_FAILED, "check that the provider named by the setting crypto-provider is installed and passes its self test: openssl list -providers" },
    { KMSENV_R_PARAMETER_INVALID, "name a profile of the setting profiles, or configure one: kms and its settings, in openssl.cnf or as KMSENV_ variables" },
    { KMSENV_R_HEADER_TOO_LARGE, "set block-size higher, use fewer profiles, or detach the wraps from the message" },
    { KMSENV_R_NO_USABLE_WRAP, "check that the profile's kms and key-id are those the data key was wrapped with" },
    { KMSENV_R_DATA_KEY_MISMATCH, "the KMS returned another key than it was given: check the endpoint, and that no proxy answers in its place" },
    { KMSENV_R_DATA_KEY_NOT_FOUND, "put the data key's PEM file into one of the directories of the setting keyring" },
    { KMSENV_R_KEYRING_FAILED, "make the directories of the setting keyring and give the process access to them" },
    { KMSENV_R_TOO_FEW_WRAPS, "bring the profiles that failed back, or lower min-wraps" },
    { KMSENV_R_KMS_UNREACHABLE, "check network, firewall, proxy and the settings region and endpoint; curl -v the endpoint from this machine" },
    { KMSENV_R_KMS_THROTTLED, "ask for a higher rate at the KMS, or raise dek-max-age and cache-entries so that fewer calls are made" },
    { KMSENV_R_KMS_ACCESS_DENIED, "grant the identity the operation on this key; the policies in conf/ name what is needed" },
    { KMSENV_R_KMS_KEY_DISABLED, "enable the key in the console of the KMS, or cancel its deletion" },
    { KMSENV_R_KMS_KEY_NOT_FOUND, "check key-id and region: the key must exist there" },
    { KMSENV_R_KMS_WRAP_REJECTED, "check that key-id, region and context are those the data key was wrapped with" },
    { KMSENV_R_KMS_CREDENTIALS, "give the process credentials: environment, credentials file or instance role, or set them in the profile's section" },
    { KMSENV_R_KMS_REPLY_MALFORMED, "check that endpoint is that of the KMS and that no proxy answers in its place" },
    { KMSENV_R_KMS_REQUEST_REJECTED, "check key-id, region and context against what the KMS says" },
    { KMSENV_R_KMS_INPUT_TOO_LARGE, "shorten the encryption context" },
    { KMSENV_R_KMS_REENTERED, "list kmsenv after the default provider, and do not name it in default_properties" },
    { KMSENV_R_KMS_CLOCK, "set the clock of this machine (NTP)" },
    { KMSENV_R_KMS_UNSUPPORTED, "choose a key of a kind that can do this; see the settings of the profile's kms" },
    { KMSENV_R_KEY_FILE_INVALID, "make a key with: kmsenv init --key-file PATH, or correct the file's owner and mode (chmod 600 PATH)" },
};

const char *kmsenv_doctor_remedy(int reason)
{
    size_t i;

    for (i = 0; i < sizeof(remedies) / sizeof(remedies[0]); i++)
        if (remedies[i].reason == reason)
            return remedies[i].remedy;
    return NULL;
}
