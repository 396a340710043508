/* PKCS#11 URIs: the examples of RFC 7512, hostile ones, what matches what. */
#include <string.h>
#include "testutil.h"
#include "kms/pkcs11_uri.h"
#include "kmsenv/format.h"

static int parse(KMSENV_PKCS11_URI *uri, const char *text, KMSENV_ERROR *err)
{
    kmsenv_error_clear(err);
    return kmsenv_pkcs11_uri_parse(uri, text, strlen(text), err);
}

static int writes(const KMSENV_PKCS11_URI *uri, const char *expected)
{
    KMSENV_BUFFER out;
    int ok;

    kmsenv_buffer_init(&out, KMSENV_PKCS11_URI_MAX, 0);
    ok = TEST_true(kmsenv_pkcs11_uri_write(uri, &out)) && TEST_str_eq(kmsenv_buffer_text(&out), expected);
    kmsenv_buffer_reset(&out);
    return ok;
}

/* The text of 33 and 129 bytes, which no token label and no attribute has. */
#define T8   "xxxxxxxx"
#define T32  T8 T8 T8 T8
#define T128 T32 T32 T32 T32

static const struct { const char *text, *canonical; } good[] = {
    /* of RFC 7512, section 3, as far as they name keys without anything that is refused; `type` as we want it */
    { "pkcs11:object=my-pubkey;type=secret-key", "pkcs11:object=my-pubkey" },
    { "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;object=my-certificate;"
      "type=secret-key;id=%69%95%3E%5C%F4%BD%EC%91;serial=",
      NULL },
    { "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;manufacturer=Snake%20Oil,%20Inc.;model=1.0;object=my-certificate;"
      "type=secret-key;id=%69%95%3E%5C%F4%BD%EC%91",
      "pkcs11:token=The%20Software%20PKCS%2311%20Softtoken;object=my-certificate;id=%69%95%3E%5C%F4%BD%EC%91" },
    { "pkcs11:token=Software%20PKCS%2311%20softtoken;manufacturer=Snake%20Oil,%20Inc.",
      "pkcs11:token=Software%20PKCS%2311%20softtoken" },
    { "pkcs11:token=My%20token%25%20created%20by%20Joe;object=k;id=%01%02%03%Ba%dd%Ca%fe%04%05%06",
      "pkcs11:token=My%20token%25%20created%20by%20Joe;object=k;id=%01%02%03%BA%DD%CA%FE%04%05%06" },
    { "pkcs11:token=A%20name%20with%20a%20substring%20%25%3B;object=my-certificate",
      "pkcs11:token=A%20name%20with%20a%20substring%20%25%3B;object=my-certificate" },
    { "pkcs11:token=Name%20with%20a%20small%20A%20with%20acute%3A%20%C3%A1;object=o",
      NULL },                                             /* more than the 32 bytes that a label can have */
    { "pkcs11:token=small%20a%20with%20acute%3a%20%c3%a1;object=o", "pkcs11:token=small%20a%20with%20acute%3A%20%C3%A1;object=o" },
    /* order and spelling do not count */
    { "pkcs11:id=ab;token=t", "pkcs11:token=t;id=%61%62" },
    { "pkcs11:id=%61b;object=%61-._~z;token=%74", "pkcs11:token=t;object=a-._~z;id=%61%62" },
    { "pkcs11:object=a:[]@!$'()*+,=&b;token=t", "pkcs11:token=t;object=a%3A%5B%5D%40%21%24%27%28%29%2A%2B%2C%3D%26b" },
    { "pkcs11:token=" T32 ";object=" T128, "pkcs11:token=" T32 ";object=" T128 },
    { "pkcs11:serial=DECC0401648;id=%00%FF", "pkcs11:id=%00%FF" },
    { "pkcs11:token=t?", "pkcs11:token=t" }
};

static int test_good(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_PKCS11_URI uri, again;

    if (good[i].canonical == NULL)
        return TEST_false(parse(&uri, good[i].text, &err)) && TEST_int_eq(err.reason, KMSENV_R_CONFIG_INVALID);
    return TEST_true(parse(&uri, good[i].text, &err)) && writes(&uri, good[i].canonical)
           && TEST_true(parse(&again, good[i].canonical, &err)) && writes(&again, good[i].canonical)
           && TEST_int_eq(kmsenv_pkcs11_uri_matches(&uri, &again),
                          kmsenv_pkcs11_uri_names_key(&again));
}

#define SECRET "very-secret-1234"

static const struct { const char *text, *says; } bad[] = {
    { "", "pkcs11:" }, { "pkcs11", "pkcs11:" }, { "PKCS11:token=t", "pkcs11:" }, { "pkcs11:", "names nothing" },
    { "http://token=t", "pkcs11:" }, { " pkcs11:token=t", "pkcs11:" },
    { "pkcs11:token=t;token=t", "twice" }, { "pkcs11:id=%01;id=%01", "twice" },
    { "pkcs11:type=secret-key;type=secret-key;token=t", "type" }, { "pkcs11:token=t;type=private", "type" },
    { "pkcs11:token=", "empty" }, { "pkcs11:token", "empty" }, { "pkcs11:=t", "not known" }, { "pkcs11:;", "ends in" },
    { "pkcs11:token=t;", "ends in" }, { "pkcs11:?", "names nothing" },
    { "pkcs11:token=t;;object=o", "not known" }, { "pkcs11:Token=t", "not known" }, { "pkcs11:x-vendor=1;token=t", "not known" },
    { "pkcs11:token=%", "%XX" }, { "pkcs11:token=%4", "%XX" }, { "pkcs11:token=%g0", "%XX" }, { "pkcs11:token=%0g", "%XX" },
    { "pkcs11:token=a%", "%XX" }, { "pkcs11:token=a b", "%XX" }, { "pkcs11:token=a\"b", "%XX" }, { "pkcs11:token=a/b", "%XX" },
    { "pkcs11:token=\xc3\xa1", "%XX" }, { "pkcs11:token=a\nb", "%XX" },
    { "pkcs11:token=%00", "UTF-8" }, { "pkcs11:object=a%00b", "UTF-8" }, { "pkcs11:token=a%0Ab", "UTF-8" },
    { "pkcs11:token=%FF", "UTF-8" }, { "pkcs11:token=%C0%80", "UTF-8" }, { "pkcs11:token=%ED%A0%80", "UTF-8" },
    { "pkcs11:token=" T32 "x", "too long" }, { "pkcs11:serial=" T8 T8 "x;token=t", "too long" },
    { "pkcs11:object=" T128 "x", "too long" }, { "pkcs11:id=" T32 T32 "x", "too long" },
    { "pkcs11:object=" T128 T128 T128 T128 T128 T128 T128 T128, "too long" },
    { "pkcs11:token=t?pin-value=" SECRET, "set pin" }, { "pkcs11:token=t;pin-value=" SECRET, "set pin" },
    { "pkcs11:token=t?pin-source=file:" SECRET, "pin = file" }, { "pkcs11:token=t?module-path=/" SECRET, "pkcs11-module" },
    { "pkcs11:token=t?module-name=" SECRET, "pkcs11-module" }, { "pkcs11:token=t;slot-id=327", "slots" },
    { "pkcs11:token=t;slot-manufacturer=Snake%20Oil,%20Inc.", "slots" }, { "pkcs11:library-version=3.1;token=t", "module" },
    { "pkcs11:token=t?" SECRET "=x", "not known" }, { "pkcs11:?pin-value=" SECRET, "set pin" },
    { "pkcs11:" SECRET "=x", "not known" }, { "pkcs11:type=" SECRET, "type" }, { "pkcs11:slot-id=" SECRET, "slots" },
    { SECRET, "pkcs11:" }
};

/* Refused, with the remedy, without a word of what was given. */
static int test_bad(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_PKCS11_URI uri;

    return TEST_false(parse(&uri, bad[i].text, &err)) && TEST_int_eq(err.reason, KMSENV_R_CONFIG_INVALID)
           && TEST_ptr(strstr(err.text, bad[i].says)) && TEST_ptr_null(strstr(err.text, SECRET));
}

/* A NUL is a byte like any other that has no place there; n counts. */
static int test_length_counts(void)
{
    static const char text[] = "pkcs11:token=t\0;object=o";
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_PKCS11_URI uri;

    return TEST_false(kmsenv_pkcs11_uri_parse(&uri, text, sizeof(text) - 1, &err))
           && TEST_true(kmsenv_pkcs11_uri_parse(&uri, text, 14, &err)) && writes(&uri, "pkcs11:token=t");
}

static const struct { const char *configured, *wrap; int matches; } pair[] = {
    { "pkcs11:token=t;object=o", "pkcs11:token=t;object=o", 1 },
    { "pkcs11:token=t;object=o", "pkcs11:token=t;object=o;id=%01", 1 },
    { "pkcs11:token=t;id=%01", "pkcs11:token=t;object=o;id=%01", 1 },
    { "pkcs11:token=t;id=1", "pkcs11:id=%31;token=%74", 1 },
    { "pkcs11:serial=s;object=o", "pkcs11:token=t;object=o;id=%01", 1 },
    { "pkcs11:token=t;serial=s;object=o", "pkcs11:token=t;object=o", 1 },
    { "pkcs11:token=t;object=o", "pkcs11:token=t;serial=s;object=o", 1 },
    { "pkcs11:token=t;serial=s;object=o", "pkcs11:token=t;serial=r;object=o", 0 },
    { "pkcs11:token=t;object=o;id=%01", "pkcs11:token=t;object=o", 0 },
    { "pkcs11:token=t;object=o;id=%01", "pkcs11:token=t;object=o;id=%02", 0 },
    { "pkcs11:token=t;object=o", "pkcs11:token=t;id=%01", 0 },
    { "pkcs11:token=t;object=o", "pkcs11:token=u;object=o", 0 },
    { "pkcs11:token=t;object=o", "pkcs11:object=o", 0 },
    { "pkcs11:token=t;object=o", "pkcs11:token=t;object=oo", 0 },
    { "pkcs11:token=t;object=o", "pkcs11:token=t;object=O", 0 },
    { "pkcs11:token=t", "pkcs11:token=t", 0 },
    { "pkcs11:token=t;id=%01", "pkcs11:token=t;id=%01%00", 0 }
};

static int test_matches(int i)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_PKCS11_URI configured, wrap;

    return TEST_true(parse(&configured, pair[i].configured, &err)) && TEST_true(parse(&wrap, pair[i].wrap, &err))
           && TEST_int_eq(kmsenv_pkcs11_uri_matches(&configured, &wrap), pair[i].matches);
}

static int test_same_token(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_PKCS11_URI a, b, c, d;

    return TEST_true(parse(&a, "pkcs11:token=t;object=a", &err)) && TEST_true(parse(&b, "pkcs11:id=b;token=%74", &err))
           && TEST_true(parse(&c, "pkcs11:token=t;serial=1;object=a", &err)) && TEST_true(parse(&d, "pkcs11:object=a", &err))
           && TEST_true(kmsenv_pkcs11_uri_same_token(&a, &b)) && TEST_false(kmsenv_pkcs11_uri_same_token(&a, &c))
           && TEST_true(kmsenv_pkcs11_uri_names_token(&a)) && TEST_true(kmsenv_pkcs11_uri_names_token(&c))
           && TEST_false(kmsenv_pkcs11_uri_names_token(&d)) && TEST_true(kmsenv_pkcs11_uri_names_key(&d));
}

/* What a token holds may be anything; what cannot be said in a URI leaves it as it was. */
static int test_set(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_PKCS11_URI uri;

    return TEST_true(parse(&uri, "pkcs11:token=t;object=o", &err))
           && TEST_false(kmsenv_pkcs11_uri_set(&uri, KMSENV_PKCS11_OBJECT, "", 0))
           && TEST_false(kmsenv_pkcs11_uri_set(&uri, KMSENV_PKCS11_OBJECT, "a\0b", 3))
           && TEST_false(kmsenv_pkcs11_uri_set(&uri, KMSENV_PKCS11_OBJECT, "\xff", 1))
           && TEST_false(kmsenv_pkcs11_uri_set(&uri, KMSENV_PKCS11_OBJECT, T128 "x", 129))
           && TEST_false(kmsenv_pkcs11_uri_set(&uri, KMSENV_PKCS11_TOKEN, T32 "x", 33))
           && TEST_true(kmsenv_pkcs11_uri_set(&uri, KMSENV_PKCS11_ID, "\0\xff", 2))
           && writes(&uri, "pkcs11:token=t;object=o;id=%00%FF");
}

/* Room for less than the whole is an error, not half a URI. */
static int test_no_room(void)
{
    KMSENV_ERROR err = KMSENV_ERROR_INIT;
    KMSENV_PKCS11_URI uri;
    KMSENV_BUFFER out;
    int ok;

    kmsenv_buffer_init(&out, 20, 0);
    ok = TEST_true(parse(&uri, "pkcs11:token=t;object=o", &err)) && TEST_false(kmsenv_pkcs11_uri_write(&uri, &out));
    kmsenv_buffer_reset(&out);
    return ok;
}

#define COUNT(table) ((int)(sizeof(table) / sizeof(table[0])))

int setup_tests(void)
{
    ADD_ALL_TESTS(test_good, COUNT(good));
    ADD_ALL_TESTS(test_bad, COUNT(bad));
    ADD_ALL_TESTS(test_matches, COUNT(pair));
    ADD_TEST(test_length_counts);
    ADD_TEST(test_same_token);
    ADD_TEST(test_set);
    ADD_TEST(test_no_room);
    return 1;
}
