/* The back ends there are. Each is defined in the file that is named after it. */
#ifndef KMSENV_KMS_REGISTRY_H
# define KMSENV_KMS_REGISTRY_H
# include "kms/kms.h"

extern const KMSENV_KMS_METHOD kmsenv_kms_local;
extern const KMSENV_KMS_METHOD kmsenv_kms_tencent;
extern const KMSENV_KMS_METHOD kmsenv_kms_alibaba;
extern const KMSENV_KMS_METHOD kmsenv_kms_alibaba_instance;
extern const KMSENV_KMS_METHOD kmsenv_kms_aws;
extern const KMSENV_KMS_METHOD kmsenv_kms_vault;
extern const KMSENV_KMS_METHOD kmsenv_kms_google;
extern const KMSENV_KMS_METHOD kmsenv_kms_pkcs11;
extern const KMSENV_KMS_METHOD kmsenv_kms_azure;

#endif
