/* Which channels are trained next: the draws of kilotune.policies, the same ones for the same seed and norms. Integer arithmetic
   from the seed to the channel; weights enter as integers rounded in float32. */
#ifndef KT_POLICY_H
#define KT_POLICY_H

#include <stdint.h>

/* PCG-XSH-RR 64/32 (O'Neill 2014). Twin of rng.Pcg32. */
typedef struct {
    uint64_t state, increment;
} kt_rng;

void kt_rng_seed(kt_rng *rng, uint64_t seed);
uint32_t kt_rng_next(kt_rng *rng);
/* Uniform on [0, bound), bound >= 1, by rejection. */
uint32_t kt_rng_below(kt_rng *rng, uint32_t bound);

/* The layers and channels that a policy chooses from, a row per layer in forward order. Channels are numbered through all rows;
   n_channels is at most 65,535. */
typedef struct {
    uint16_t n_rows, n_channels;
    uint32_t size;            /* elements that a draw may spend */
    const uint16_t *channels; /* (rows) input channels of each layer */
    const uint32_t *cost;     /* (rows) elements that one channel costs, weights + inputs */
} kt_candidates;

/* The channels of a draw: of each row its number of channels, and these, increasing, one row behind the other. */
typedef struct {
    uint16_t *count; /* (rows) */
    uint16_t *index; /* (all drawn) channel within its layer */
} kt_draw;

/* Scratch of the draws, bytes: kt_draw_uniform 4 * ceil(n / 2) + 4 * ceil(n / 32), kt_draw_medyate 4 * m + 4 * ceil(n / 32) with m the
   smallest power of two above n or the former if that is more, kt_draw_anew and kt_draw_strided as kt_draw_uniform, kt_draw_cyclic 4 * ceil(n / 32);
   n = n_channels. Aligned to four bytes. */

/* Channels in a uniform order until the next one does not fit (random, TraDy algorithm 1). */
void kt_draw_uniform(const kt_candidates *among, kt_rng *rng, const kt_draw *drawn, void *scratch);

/* Channels one by one, each with probability proportional to its norm, until the next one does not fit (MeDyate, algorithm 1).
   norms: (channels) the stored gradient norms, negative where none was seen; as soon as one is known, the others are set to the
   largest of them. Uniform while there is none. */
void kt_draw_medyate(const kt_candidates *among, float *norms, kt_rng *rng, const kt_draw *drawn, void *scratch);

/* The next counts[row] channels of each row on a walk round and round through its channels (DGSU, cyclic).
   order: (channels) the walk, cursor: (rows) where it stands; the walk of a row in which KT_NOT_BEGUN stands is drawn first, when it is
   needed. */
#define KT_NOT_BEGUN 0xFFFFu
void kt_draw_cyclic(const kt_candidates *among, const uint16_t *counts, uint16_t *order, uint16_t *cursor, kt_rng *rng,
                    const kt_draw *drawn, void *scratch);

/* The same in steps of a length prime to the number of channels (DGSU, strided). stride: (rows). */
void kt_draw_strided(const kt_candidates *among, const uint16_t *counts, uint16_t *stride, uint16_t *cursor, kt_rng *rng,
                     const kt_draw *drawn, void *scratch);

/* counts[row] channels of each row, uniformly (DGSU, independent). */
void kt_draw_anew(const kt_candidates *among, const uint16_t *counts, kt_rng *rng, const kt_draw *drawn, void *scratch);

/* Sums the norm of a channel's gradient over the steps since a draw, step from 0; kt_norms_mean divides by their number.
   The sum stands where the stored norm of the channel was, which it replaces. Twin of train.observe.MeanNorms. */
static inline void kt_norm_add(float *norm, float found, uint32_t step)
{
    *norm = step == 0 ? found : *norm + found;
}
void kt_norms_mean(const kt_candidates *among, const kt_draw *drawn, uint32_t n_steps, float *norms);

/* Internal: the channels marked in (channels) bits, as a draw. */
void kt_draw_from_bits(const kt_candidates *among, const uint32_t *bits, const kt_draw *drawn);
/* Internal: what one channel costs, by its number. */
uint32_t kt_channel_cost(const kt_candidates *among, uint32_t channel);
/* Internal: moves a channel drawn from order[place] .. order[n-1] to order[place], and returns it (Fisher-Yates). */
uint16_t kt_shuffle_next(uint16_t *order, uint32_t place, uint32_t n, kt_rng *rng);

#endif
