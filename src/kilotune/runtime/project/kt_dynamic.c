/* Which channels are trained now, and from where the draws go on; part of every commit. */
static struct {
    kt_rng rng;
    uint32_t n_steps;  /* updates since the draw */
    uint32_t n_summed; /* samples in the sums of gradients */@n_seen@
    uint16_t count[KT_POOL];
    uint16_t index[@max_channels@];
} present;

static const kt_draw drawn = {present.count, present.index};
static const kt_region region = {(uint8_t *)(kt_arena + @slices_top@), @copies@, @accumulates@};
@tables@
static const kt_candidates candidates = {KT_POOL, @n_channels@, @size@u, channels, cost};

/* Committed weights of all layers that draws may train: they lie in the store and are read there. */
static const float *committed;
static kt_store store;

/* The upper end of the arena: slices of the largest draw, biases and classifier, what the policy remembers. */
#define RESIDENT_BYTES @resident_bytes@u
#define WEIGHT_BYTES @weight_bytes@u
static float *const resident = kt_arena + (KT_ARENA_BYTES - RESIDENT_BYTES) / 4;

static void place(void)
{
    uint16_t *index = present.index;
    for (int l = 0; l < KT_POOL; l++) {
        kt_slices[l].count = present.count[l];
        kt_slices[l].index = index;
        index += present.count[l];
    }
    kt_place(kt_slices, kt_layers, KT_POOL, &region);
@passing@
}

static void draw(void)
{
@draw@
    present.n_steps = 0;
    place();
}

static void clear_slices(void)
{
    float *const lowest = kt_slices[KT_POOL - 1].delta;
    kt_zero(lowest, (int)(kt_arena + @slices_top@ - lowest));
}

static int append_initial(void)
{
    int failed = 0;
@initial@
    return failed;
}

static int append_present(int with_deltas)
{
    int failed = 0;
    for (int l = 0; l < KT_POOL && with_deltas; l++) {
        failed |= kt_store_append_slice(&store, committed, &kt_layers[l], &kt_slices[l]);
    }
    return with_deltas ? failed : kt_store_keep(&store, WEIGHT_BYTES);
}

/* The commit counts from its last write on; after power loss kt_start finds this one or the one before it. */
static int finish(int failed)
{
    present.n_summed = n_summed;
    failed |= kt_store_append(&store, resident, RESIDENT_BYTES);
    failed |= kt_store_append(&store, &present, sizeof present);
    if (failed || kt_store_commit(&store) < 0) {
        return KT_NO_STORE;
    }
    committed = (const float *)(const void *)(medium->map + kt_store_address(&store));
    return KT_OK;
}

static int first_draw(void)
{
    int failed;
    kt_rng_seed(&present.rng, @seed@u);
@forget@
    if (kt_store_begin(&store) < 0) {
        return KT_NO_STORE;
    }
    failed = append_initial();
    draw();
    clear_slices();
    return finish(failed);
}

/* A code of kt_store.h, or of kt_types.h. */
static int reopen(void)
{
    const uint32_t image_bytes = WEIGHT_BYTES + RESIDENT_BYTES + sizeof present;
    const int found = medium && medium->map ? kt_store_open(&store, medium, image_bytes, KT_IDENTITY) : KT_NO_STORE;
    if (found < 0 || found == KT_STORE_EMPTY) {
        return found;
    }
    const uint32_t at = kt_store_address(&store);
    committed = (const float *)(const void *)(medium->map + at);
    if (medium->read(at + WEIGHT_BYTES, resident, RESIDENT_BYTES) != 0 ||
        medium->read(at + WEIGHT_BYTES + RESIDENT_BYTES, &present, sizeof present) != 0) {
        return KT_NO_STORE;
    }
    n_summed = present.n_summed;
    place();
    return KT_OK;
}

static int begin(void)
{
    const int found = reopen();
    return found == KT_STORE_EMPTY ? first_draw() : found;
}

int kt_restore(void)
{
    const int found = reopen();
    return found == KT_STORE_EMPTY ? KT_NO_STORE : found;
}

int kt_save(void)
{
    return kt_store_begin(&store) < 0 ? KT_NO_STORE : finish(append_present(0));
}

int kt_redraw(void)
{
    int failed;
    kt_apply();
@observed@
    if (kt_store_begin(&store) < 0) {
        return KT_NO_STORE;
    }
    failed = append_present(1);
    draw();
    clear_slices();
    return finish(failed);
}
