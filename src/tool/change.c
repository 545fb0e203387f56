/* Changes as lines of JSON. */
#define _GNU_SOURCE
#include "change.h"

#include <stdlib.h>
#include <string.h>

#define SCHEMA "ekv.change.1"

/* --- Base64 ---------------------------------------------------------------------------------- */

static int digit(char letter)
{
    if (letter >= 'A' && letter <= 'Z')
        return letter - 'A';
    if (letter >= 'a' && letter <= 'z')
        return letter - 'a' + 26;
    if (letter >= '0' && letter <= '9')
        return letter - '0' + 52;
    return letter == '+' ? 62 : letter == '/' ? 63 : -1;
}

/* The bytes that base64 with its padding stands for; NULL when it is none. The caller frees. */
static uint8_t *decode_base64(const char *text, size_t length, size_t *size)
{
    size_t padding = 0;
    uint8_t *bytes = allocate(length / 4 * 3);
    bool good = length % 4 == 0;
    while (good && padding < 2 && padding < length && text[length - 1 - padding] == '=')
        padding++;
    *size = 0;
    for (size_t i = 0; good && i < length; i += 4) {
        size_t digits = i + 4 < length ? 4 : 4 - padding;
        uint32_t group = 0;
        for (size_t j = 0; j < 4; j++) {
            int value = j < digits ? digit(text[i + j]) : 0;
            good = good && value >= 0;
            group = group << 6 | (uint32_t)(value & 63);
        }
        for (size_t j = 0; j + 1 < digits; j++)
            bytes[(*size)++] = (uint8_t)(group >> (16 - 8 * j));
        if (digits < 4 && (group & (digits == 3 ? 0xff : 0xffff)) != 0)
            good = false; /* bits that belong to no byte */
    }
    if (good)
        return bytes;
    free(bytes);
    return NULL;
}

/* --- Reading --------------------------------------------------------------------------------- */

/* Takes NAME or NAME_base64. False, with a message, when there is no or no right one; `slot` holds
 * what must be freed. */
static bool take_bytes(const struct input *input, json_t *object, const char *name, uint8_t **slot,
                       const uint8_t **bytes, size_t *size)
{
    char encoded_name[32];
    snprintf(encoded_name, sizeof encoded_name, "%s_base64", name);
    json_t *text = json_object_get(object, name), *encoded = json_object_get(object, encoded_name);
    if (!text == !encoded) {
        input_complain(input,
                       text ? "\"%s\" and \"%s\" are two, one is wanted"
                            : "a put or del needs \"%s\" (or \"%s\")",
                       name, encoded_name);
        return false;
    }
    if (!json_is_string(text ? text : encoded)) {
        input_complain(input, "\"%s\" is no string", text ? name : encoded_name);
        return false;
    }
    if (text) {
        *bytes = (const uint8_t *)json_string_value(text);
        *size = json_string_length(text);
        return true;
    }
    *slot = decode_base64(json_string_value(encoded), json_string_length(encoded), size);
    *bytes = *slot;
    if (!*slot)
        input_complain(input, "\"%s\" is no base64", encoded_name);
    return *slot != NULL;
}

static bool take_space(const struct input *input, json_t *object, struct change *change)
{
    json_t *space = json_object_get(object, "space");
    change->key.space = EKV_USER;
    if (!space)
        return true;
    if (!json_is_string(space) || (strcmp(json_string_value(space), SPACE_ATTRIBUTES) != 0 &&
                                   strcmp(json_string_value(space), "keys") != 0)) {
        input_complain(input, "\"space\" is neither \"keys\" nor \"" SPACE_ATTRIBUTES "\"");
        return false;
    }
    if (strcmp(json_string_value(space), SPACE_ATTRIBUTES) == 0)
        change->key.space = EKV_ASIDE;
    return true;
}

static bool take_op(const struct input *input, json_t *object, struct change *change)
{
    json_t *op = json_object_get(object, "op");
    const char *word = op ? json_string_value(op) : "put";
    bool has_value = json_object_get(object, "value") || json_object_get(object, "value_base64");
    change->remove = word && (strcmp(word, "del") == 0 || strcmp(word, "delete") == 0);
    if (!word || (!change->remove && strcmp(word, "put") != 0)) {
        input_complain(input, "\"op\" is neither \"put\" nor \"del\"");
        return false;
    }
    if (change->remove && has_value) {
        input_complain(input, "a del has no value");
        return false;
    }
    if (!op && !has_value) {
        input_complain(input, "there is neither an \"op\" nor a \"value\"");
        return false;
    }
    return true;
}

static bool take_conditions(const struct input *input, json_t *object, struct change *change)
{
    json_t *absent = json_object_get(object, "if_absent");
    json_t *version = json_object_get(object, "if_version");
    if (absent && !json_is_boolean(absent)) {
        input_complain(input, "\"if_absent\" is neither true nor false");
        return false;
    }
    if (version && (!json_is_integer(version) || json_integer_value(version) < 0)) {
        input_complain(input, "\"if_version\" is no version number");
        return false;
    }
    change->if_absent = json_is_true(absent);
    change->if_version = version != NULL;
    change->version = (uint64_t)json_integer_value(version);
    if (change->if_absent && change->if_version) {
        input_complain(input, "\"if_absent\" and \"if_version\" cannot both hold");
        return false;
    }
    return true;
}

/* What stands in a line beside the change is known, or refused. */
static bool check_members(const struct input *input, json_t *object)
{
    static const char *const known[] = {"schema",     "op",      "space",        "key",
                                        "key_base64", "value",   "value_base64", "if_absent",
                                        "if_version", "version", "time",         "size"};
    const char *name;
    json_t *value;
    json_object_foreach(object, name, value)
    {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++)
            found = found || strcmp(name, known[i]) == 0;
        if (!found) {
            input_complain(input, "a put or del has no member \"%s\"",
                           key_text(name, strlen(name)));
            return false;
        }
    }
    return true;
}

bool change_is_blank(const char *line, size_t size)
{
    while (size > 0 && strchr(" \t\r", line[size - 1]) && line[size - 1])
        size--;
    return size == 0;
}

bool change_parse(const struct input *input, const char *line, size_t size, struct change *change)
{
    json_error_t error;
    const uint8_t *bytes = NULL;
    size_t key_size = 0;
    *change = (struct change){0};
    change->json = json_loadb(line, size, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &error);
    if (!change->json) {
        input_complain(input, "this is no JSON: %s", error.text);
        return false;
    }
    bool good = json_is_object(change->json);
    if (!good)
        input_complain(input, "this is no JSON object, such as {\"op\":\"del\",\"key\":\"name\"}");
    good = good && check_members(input, change->json) && take_op(input, change->json, change) &&
           take_space(input, change->json, change) &&
           take_conditions(input, change->json, change) &&
           take_bytes(input, change->json, "key", &change->bytes[0], &bytes, &key_size);
    if (good && !change->remove)
        good = take_bytes(input, change->json, "value", &change->bytes[1], &change->value,
                          &change->value_size);
    if (good && key_size > UINT32_MAX) {
        input_complain(input, "the key has %zu bytes", key_size);
        good = false;
    }
    change->key.bytes = bytes;
    change->key.size = (uint32_t)key_size;
    if (!good)
        change_free(change);
    return good;
}

void change_free(struct change *change)
{
    json_decref(change->json);
    free(change->bytes[0]);
    free(change->bytes[1]);
}

/* --- Printing -------------------------------------------------------------------------------- */

static json_t *begin_line(struct ekv_key key, const char *op)
{
    json_t *object = json_pack("{s:s, s:s}", "schema", SCHEMA, "op", op);
    if (key.space == EKV_ASIDE)
        json_object_set_new(object, "space", json_string(SPACE_ATTRIBUTES));
    json_set_bytes(object, "key", key.bytes, key.size);
    return object;
}

void change_print_put(struct ekv_key key, const void *value, size_t size)
{
    json_t *object = begin_line(key, "put");
    json_set_bytes(object, "value", value, size);
    json_line(object);
}

void change_print_delete(struct ekv_key key)
{
    json_line(begin_line(key, "del"));
}
