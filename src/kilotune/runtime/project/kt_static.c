@present@static int begin(void) { return KT_OK; }

int kt_redraw(void) { return KT_OK; }

/* What stays from step to step, weights and sums of gradients: the upper end of the arena. */
#define RESIDENT_BYTES @resident_bytes@u
static float *const resident = kt_arena + (KT_ARENA_BYTES - RESIDENT_BYTES) / 4;

int kt_save(void)
{
    kt_store store;
    if (medium == NULL || kt_store_open(&store, medium, RESIDENT_BYTES, KT_IDENTITY) == KT_STORE_FAILED) {
        return KT_NO_STORE;
    }
    const int failed = kt_store_begin(&store) < 0 || kt_store_append(&store, resident, RESIDENT_BYTES) < 0;
    return failed || kt_store_commit(&store) < 0 ? KT_NO_STORE : KT_OK;
}

int kt_restore(void)
{
    kt_store store;
    const int found = medium ? kt_store_open(&store, medium, RESIDENT_BYTES, KT_IDENTITY) : KT_STORE_FAILED;
    if (found < 0) {
        return found == KT_STORE_FAILED ? KT_NO_STORE : KT_CORRUPT_STORE;
    }
    if (found == KT_STORE_EMPTY) {
        return KT_NO_STORE;
    }
    return medium->read(kt_store_address(&store), resident, RESIDENT_BYTES) ? KT_NO_STORE : KT_OK;
}
