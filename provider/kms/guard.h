/*
 * Is this thread inside a KMS call? Set for the caller by kms.c and for the helper thread that
 * makes its request by http.c, so that whatever TLS or a resolver loads there (a sealed client
 * key, for example) cannot lead back into the same KMS.
 */
#ifndef KMSENV_KMS_GUARD_H
# define KMSENV_KMS_GUARD_H

void kmsenv_guard_enter(void);
void kmsenv_guard_leave(void);
int kmsenv_guard_is_inside(void);

#endif
