/* The program that `kilotune emulate` runs: evaluates, trains on samples that the host hands over one at a time, evaluates again.
   It reads session.bin in the host's current folder: KT_WORDS words, the order of the training samples (n_steps words), then the
   samples, a word for the label and the image; those of training first. What it finds goes to the console, a line each. */
#include "kt_board.h"
#include "kt_project.h"

enum { MAGIC, SAMPLE_BYTES, N_TRAIN, N_TEST, N_STEPS, STEPS_PER_UPDATE, STEPS_PER_DRAW, KT_WORDS };

#define SESSION_MAGIC 0x3153544Bu
#define BAD_SESSION 4u
#define FAILED 5u

/* Empty functions around each phase: the counting plugin looks for their addresses. */
#define PHASE(name)                                                                                         \
    void kt_begin_##name(void) __attribute__((noinline));                                                  \
    void kt_begin_##name(void) { __asm__ volatile(""); }                                                    \
    void kt_end_##name(void) __attribute__((noinline));                                                    \
    void kt_end_##name(void) { __asm__ volatile(""); }

PHASE(start)
PHASE(forward)
PHASE(step)
PHASE(update)
PHASE(redraw)
PHASE(save)

/* A number that no network computes: what still has it in the end was never written. */
#define UNTOUCHED 0x7FE5A5A5u

static int32_t file;
static uint32_t session[KT_WORDS];

static void check(int code, const char *what)
{
    if (code < 0) {
        kt_print("failed ");
        kt_print_word((uint32_t)code);
        kt_print(what);
        kt_print("\n");
        kt_board_exit(FAILED);
    }
}

static void print_line(const char *key, uint32_t word)
{
    kt_print(key);
    kt_print_word(word);
    kt_print("\n");
}

static void read_at(uint32_t place, void *to, uint32_t n)
{
    if (kt_host_seek(file, place) != 0 || kt_host_read(file, to, n) != 0) {
        kt_print("session.bin ends early\n");
        kt_board_exit(BAD_SESSION);
    }
}

/* Brings the sample to where the network reads it; returns its label. */
static uint32_t fetch(uint32_t sample)
{
    const uint32_t start = (KT_WORDS + session[N_STEPS]) * 4 + sample * session[SAMPLE_BYTES];
    uint32_t label;

    read_at(start, &label, 4);
    read_at(start + 4, kt_image(), session[SAMPLE_BYTES] - 4);
    return label;
}

static void evaluate(const char *key)
{
    static float logits[KT_CLASSES];
    uint32_t sample, c, n_right = 0;

    for (sample = 0; sample < session[N_TEST]; sample++) {
        const uint32_t label = fetch(session[N_TRAIN] + sample);
        uint32_t best = 0;

        kt_begin_forward();
        kt_infer(kt_image(), logits);
        kt_end_forward();
        for (c = 1; c < KT_CLASSES; c++) {
            best = logits[c] > logits[best] ? c : best;
        }
        n_right += best == label;
    }
    print_line(key, n_right);
}

static void train(void)
{
    uint32_t step, sample, label;

    for (step = 0; step < session[N_STEPS]; step++) {
        float loss;

        if (session[STEPS_PER_DRAW] != 0 && step != 0 && step % session[STEPS_PER_DRAW] == 0) {
            int code;

            kt_begin_redraw();
            code = kt_redraw();
            kt_end_redraw();
            check(code, "redraw");
        }
        read_at((KT_WORDS + step) * 4, &sample, 4);
        label = fetch(sample);
        kt_begin_step();
        loss = kt_train_step(kt_image(), label);
        kt_end_step();
        check(loss < 0 ? (int)loss : 0, "train_step");
        print_line("loss ", kt_bits(loss));
        if ((step + 1) % session[STEPS_PER_UPDATE] == 0 || step + 1 == session[N_STEPS]) {
            kt_begin_update();
            kt_apply();
            kt_end_update();
        }
    }
}

static void paint_arena(void)
{
    uint32_t i;

    for (i = 0; i < KT_ARENA_BYTES / 4; i++) {
        kt_arena[i] = kt_float(UNTOUCHED);
    }
}

/* The arena is filled from both ends: all of it but the gap in the middle that nothing ever wrote to. */
static uint32_t arena_high_water(void)
{
    uint32_t low = KT_ARENA_FIXED / 4, high = low;

    while (low > 0 && kt_bits(kt_arena[low - 1]) == UNTOUCHED) {
        low--;
    }
    while (high < KT_ARENA_BYTES / 4 && kt_bits(kt_arena[high]) == UNTOUCHED) {
        high++;
    }
    return KT_ARENA_BYTES - 4 * (high - low);
}

int main(void)
{
    int code;

    file = kt_host_open("session.bin");
    if (file < 0) {
        kt_print("session.bin cannot be opened\n");
        return BAD_SESSION;
    }
    read_at(0, session, sizeof session);
    if (session[MAGIC] != SESSION_MAGIC || session[SAMPLE_BYTES] != 4 + KT_IMAGE_BYTES) {
        kt_print("session.bin is of another project\n");
        return BAD_SESSION;
    }
    paint_arena();
    kt_use_store(kt_external_medium());
    kt_begin_start();
    code = kt_start();
    kt_end_start();
    check(code, "start");
    evaluate("before ");
    train();
    evaluate("after ");
    kt_begin_save();
    code = kt_save();
    kt_end_save();
    check(code == KT_NO_STORE ? KT_OK : code, "save"); /* a project may have nowhere to save to */
    print_line("hash ", kt_weights_hash());
    print_line("stack ", kt_stack_high_water());
    print_line("arena ", arena_high_water());
    return 0;
}
