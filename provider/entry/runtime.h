/* From the configuration to the data keys of a provider context: the one place where everything is wired. */
#ifndef KMSENV_ENTRY_RUNTIME_H
# define KMSENV_ENTRY_RUNTIME_H
# include "entry/config.h"
# include "ops/provctx.h"

typedef struct kmsenv_instance_st KMSENV_INSTANCE;   /* a runtime and what it owns */

/* Never fails but for memory (NULL): a wrong configuration makes a runtime that holds the error. */
KMSENV_INSTANCE *kmsenv_instance_new(const KMSENV_SOURCE *source, KMSENV_PROVCTX *provctx);
void kmsenv_instance_free(KMSENV_INSTANCE *instance);
const KMSENV_RUNTIME *kmsenv_instance_get0_runtime(const KMSENV_INSTANCE *instance);

#endif
