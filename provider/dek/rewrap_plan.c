/* What is to be done to the wraps of a data key. */
#include <string.h>
#include <openssl/crypto.h>
#include "dek/rewrap_local.h"

/* The first profile that answers for a wrap. NULL: none; with err if one could not tell. */
static KMSENV_KMS *profile_of(const KMSENV_REWRAP *r, const KMSENV_WRAP *wrap, KMSENV_ERROR *err)
{
    KMSENV_ERROR mine = KMSENV_ERROR_INIT;
    size_t i;

    for (i = 0; i < r->deks->count; i++) {
        if (kmsenv_kms_matches(r->deks->profile[i], wrap->kms, wrap->blob.key_id, &mine))
            return r->deks->profile[i];
        if (mine.reason != KMSENV_R_NONE && err->reason == KMSENV_R_NONE)
            *err = mine;
        kmsenv_error_clear(&mine);
    }
    return NULL;
}

/* May the service re-encrypt that wrap under the profile's key? */
static int may_reencrypt(KMSENV_REWRAP *r, const KMSENV_KMS *kms, const KMSENV_WRAP *wrap)
{
    return strcmp(kmsenv_kms_method(kms)->name, wrap->kms) == 0 && kmsenv_kms_may_reencrypt(kms, &wrap->blob, &wrap->context)
           && !kmsenv_rewrap_is_refused(r, kms, wrap->blob.key_id);
}

/*
 * Which old wrap a new one of this profile is best made from: one of its own; or one of another profile that its service
 * may re-encrypt from (the two may be one account). Only wraps that some profile answers for: those that nobody here
 * answers for are for others, and what they say is not asked about anywhere.
 */
static void choose_source(KMSENV_REWRAP *r, const KMSENV_DATA_KEY *key, KMSENV_REWRAP_STEP *step)
{
    KMSENV_ERROR ignored = KMSENV_ERROR_INIT;
    size_t w;

    for (w = 0; w < key->wraps; w++)
        if (kmsenv_kms_matches(step->kms, key->wrap[w].kms, key->wrap[w].blob.key_id, &ignored)) {
            step->wrap = w;
            step->in_kms = may_reencrypt(r, step->kms, &key->wrap[w]);
            return;
        }
    for (w = 0; w < key->wraps; w++)
        if (may_reencrypt(r, step->kms, &key->wrap[w]) && profile_of(r, &key->wrap[w], &ignored) != NULL) {
            step->wrap = w;
            step->in_kms = 1;
            return;
        }
    step->wrap = KMSENV_REWRAP_ANY;
    step->in_kms = 0;
}

static KMSENV_REWRAP_STEP *add_step(KMSENV_REWRAP_PLAN *plan, KMSENV_KMS *kms, size_t wrap, KMSENV_ERROR *err)
{
    KMSENV_REWRAP_STEP *step = &plan->step[plan->count];

    if (plan->count == KMSENV_WRAPS_MAX) {
        kmsenv_error_set(err, KMSENV_R_PARAMETER_INVALID, "the data key would have more than %d wraps", KMSENV_WRAPS_MAX);
        return NULL;
    }
    plan->count++;
    step->kms = kms;
    step->wrap = wrap;
    step->in_kms = 0;
    return step;
}

static int has_step(const KMSENV_REWRAP_PLAN *plan, const KMSENV_KMS *kms)
{
    size_t i;

    for (i = 0; i < plan->count && plan->step[i].kms != kms; i++)
        ;
    return i < plan->count;
}

/* Each wrap by the profile that answers for it. A second one of the same profile would become the same as the first. */
static int plan_renewal(KMSENV_REWRAP *r, const KMSENV_DATA_KEY *key, KMSENV_REWRAP_PLAN *plan, KMSENV_ERROR *err)
{
    KMSENV_ERROR cause = KMSENV_ERROR_INIT;
    KMSENV_REWRAP_STEP *step;
    size_t w, renewed = 0;
    KMSENV_KMS *kms;

    for (w = 0; w < key->wraps; w++) {
        kms = profile_of(r, &key->wrap[w], &cause);
        if (kms != NULL && has_step(plan, kms))
            continue;
        if ((step = add_step(plan, kms, w, err)) == NULL)
            return 0;
        renewed += kms != NULL;
        step->in_kms = kms != NULL && may_reencrypt(r, kms, &key->wrap[w]);
    }
    if (renewed > 0)
        return 1;
    if (cause.reason == KMSENV_R_NONE)
        return kmsenv_deks_no_profile(r->deks, key, err);
    *err = cause;
    return 0;
}

/* The wrap under the profile's own key; KMSENV_REWRAP_ANY if there is none. 0 with err if the profile cannot tell its key. */
static int find_own(KMSENV_KMS *kms, const KMSENV_DATA_KEY *key, size_t *found, KMSENV_ERROR *err)
{
    size_t w;

    *found = KMSENV_REWRAP_ANY;
    for (w = 0; w < key->wraps && *found == KMSENV_REWRAP_ANY; w++)
        if (kmsenv_kms_is_own(kms, key->wrap[w].kms, key->wrap[w].blob.key_id, err))
            *found = w;
        else if (err->reason != KMSENV_R_NONE)
            return 0;
    return 1;
}

/* Some wrap must be one that can be opened. */
static int is_answered_for(KMSENV_REWRAP *r, const KMSENV_DATA_KEY *key, KMSENV_ERROR *err)
{
    KMSENV_ERROR cause = KMSENV_ERROR_INIT;
    size_t w;

    for (w = 0; w < key->wraps; w++)
        if (profile_of(r, &key->wrap[w], &cause) != NULL)
            return 1;
    if (cause.reason == KMSENV_R_NONE)
        return kmsenv_deks_no_profile(r->deks, key, err);
    *err = cause;
    return 0;
}

/* The wraps of the targets, of which those that are there already (own[]) are kept unless they are to be made again. */
static int plan_targets(KMSENV_REWRAP *r, const KMSENV_DATA_KEY *key, const size_t *own, KMSENV_REWRAP_PLAN *plan, KMSENV_ERROR *err)
{
    KMSENV_REWRAP_STEP *step;
    size_t i, w;

    for (w = 0; r->options.add && w < key->wraps; w++) {
        for (i = 0; i < r->targets && own[i] != w; i++)
            ;
        if ((i == r->targets || !r->options.force) && add_step(plan, NULL, w, err) == NULL)
            return 0;
    }
    for (i = 0; i < r->targets; i++) {
        if (r->options.add && !r->options.force && own[i] != KMSENV_REWRAP_ANY)
            continue;
        if ((step = add_step(plan, r->deks->profile[r->target[i]], KMSENV_REWRAP_ANY, err)) == NULL)
            return 0;
        choose_source(r, key, step);
    }
    return 1;
}

int kmsenv_rewrap_plan(KMSENV_REWRAP *rewrap, const KMSENV_DATA_KEY *key, KMSENV_REWRAP_PLAN *plan, KMSENV_ERROR *err)
{
    size_t own[KMSENV_PROFILES_MAX], i, there = 0;

    plan->count = 0;
    if (rewrap->options.profiles == NULL)
        return plan_renewal(rewrap, key, plan, err);
    for (i = 0; i < rewrap->targets; i++) {
        if (!find_own(rewrap->deks->profile[rewrap->target[i]], key, &own[i], err))
            return 0;
        there += own[i] != KMSENV_REWRAP_ANY;
    }
    if (!rewrap->options.force && there == rewrap->targets && (rewrap->options.add || there == key->wraps))
        return 1;
    return is_answered_for(rewrap, key, err) && plan_targets(rewrap, key, own, plan, err);
}
