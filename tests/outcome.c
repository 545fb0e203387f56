/* What a store may hold after its power was lost: see workload.h.
 *
 * A cut operation is there or not. Which of both, a mount says, and as long as nothing was written
 * after it, the next mount may say otherwise where the flash reads differently each time. If the
 * first write after the cut is cut as well, what it might have made comes to the states that were
 * possible already. An acknowledged write ends all that: what it answered to is there for good.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "workload.h"

/* --- The states ------------------------------------------------------------------------------ */

static bool same_blob(const struct model_blob *a, const struct model_blob *b)
{
    return a->size == b->size && memcmp(a->bytes, b->bytes, a->size) == 0;
}

/* The same values written again have another version. */
static bool same_content(const struct model *a, const struct model *b)
{
    if (a->count != b->count)
        return false;
    for (uint32_t i = 0; i < a->count; i++)
        if (a->entries[i].space != b->entries[i].space ||
            a->entries[i].version != b->entries[i].version ||
            !same_blob(a->entries[i].key, b->entries[i].key) ||
            !same_blob(a->entries[i].value, b->entries[i].value))
            return false;
    return true;
}

static void add_state(struct outcomes *outcomes, const struct model *state)
{
    for (uint32_t i = 0; i < outcomes->count; i++)
        if (same_content(&outcomes->states[i], state))
            return;
    outcomes->states = realloc(outcomes->states, (outcomes->count + 1) * sizeof *outcomes->states);
    if (!outcomes->states) {
        fprintf(stderr, "outcome: no memory\n");
        exit(2);
    }
    model_init(&outcomes->states[outcomes->count]);
    model_copy(&outcomes->states[outcomes->count++], state);
}

void outcomes_free(struct outcomes *outcomes)
{
    for (uint32_t i = 0; i < outcomes->count; i++)
        model_free(&outcomes->states[i]);
    free(outcomes->states);
    memset(outcomes, 0, sizeof *outcomes);
}

void outcomes_copy(struct outcomes *to, const struct outcomes *from)
{
    outcomes_free(to);
    for (uint32_t i = 0; i < from->count; i++)
        add_state(to, &from->states[i]);
    to->since = from->since;
}

void outcomes_add(struct outcomes *outcomes, const struct model *committed,
                  const struct model *after, int result)
{
    if (result == EKV_OK)
        outcomes_free(outcomes);
    if (result != EKV_OK || !after)
        add_state(outcomes, committed);
    if (after)
        add_state(outcomes, after);
}

/* --- Which of them it is --------------------------------------------------------------------- */

bool world_recognise(struct world *world, struct model_why *why)
{
    struct outcomes *outcomes = &world->models.outcomes;
    struct model *committed = &world->models.committed;
    if (outcomes->count == 0)
        return model_equals_store(committed, world->live.db, why);
    size_t used = 0;
    for (uint32_t i = 0; i < outcomes->count; i++) {
        struct model_why not_this;
        model_copy(committed, &outcomes->states[i]);
        if (model_equals_store(committed, world->live.db, &not_this)) {
            if (!nor_is_unstable(&world->nor))
                outcomes_free(outcomes);
            return true;
        }
        if (used < sizeof why->text)
            used += (size_t)snprintf(why->text + used, sizeof why->text - used, "%s%.150s",
                                     i == 0 ? "none of what may be there: " : "; ", not_this.text);
    }
    return false;
}

void world_decide(struct world *world)
{
    struct outcomes *outcomes = &world->models.outcomes;
    if (outcomes->count > 0 && world->nor.now.operations > outcomes->since)
        outcomes_free(outcomes);
}

/* `detail` may lie in `why`. */
static bool say(struct model_why *why, const char *words, const char *detail)
{
    struct model_why plain;
    snprintf(plain.text, sizeof plain.text, "%s", detail);
    snprintf(why->text, sizeof why->text, "%.60s %.400s", words, plain.text);
    return false;
}

bool world_recover(struct world *world, struct model_why *why)
{
    uint64_t operations = world->models.outcomes.since = world->nor.now.operations;
    for (int i = 0; i < 2; i++) {
        int error = world_mount(world, false);
        if (error)
            return say(why, i == 0 ? "the mount after the cut answers" : "the second mount answers",
                       model_result_name(error));
        if (!world_recognise(world, why))
            return say(why, i == 0 ? "after the cut:" : "the second mount differs:", why->text);
    }
    if (!model_store_is_sound(world->live.db, why))
        return say(why, "after the cut", why->text);
    if (world->nor.now.operations != operations)
        return say(why, "a mount wrote", "");
    return true;
}

bool world_survive(struct world *world, const struct operation *operation, int result,
                   struct model_why *why)
{
    struct model after;
    nor_power_on(&world->nor);
    model_init(&after);
    world_model_after(world, operation, &after);
    outcomes_add(&world->models.outcomes, &world->models.committed, &after, result);
    model_free(&after);
    return world_recover(world, why);
}
