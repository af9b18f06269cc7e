/* A plugin of QEMU that counts the instructions of each phase of the firmware; compiled for the host, the firmware is unchanged.
   Arguments: out=PATH, and for each phase NAME=BEGIN:END, the addresses of two empty functions that are called around it.
   At the end the file has a line "NAME calls fewest most total" for each phase, and "all 1 n n n".
   Instructions are counted block by block as the emulator runs them: the same number every time.

   The few declarations needed are written out, as distributions do not ship qemu-plugin.h (API version 1). */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
enum { NO_REGISTERS = 0 };

extern size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb *tb);
extern struct qemu_plugin_insn *qemu_plugin_tb_get_insn(const struct qemu_plugin_tb *tb, size_t place);
extern uint64_t qemu_plugin_insn_vaddr(const struct qemu_plugin_insn *insn);
extern void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t id,
                                                  void (*translated)(qemu_plugin_id_t, struct qemu_plugin_tb *));
extern void qemu_plugin_register_vcpu_tb_exec_cb(struct qemu_plugin_tb *tb, void (*run)(unsigned int, void *), int registers,
                                                 void *argument);
extern void qemu_plugin_register_atexit_cb(qemu_plugin_id_t id, void (*leave)(qemu_plugin_id_t, void *), void *argument);

__attribute__((visibility("default"))) int qemu_plugin_version = 1;
__attribute__((visibility("default"))) int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv);

#define MAX_PHASES 16

static struct {
    char name[32];
    uint64_t begin, end, calls, fewest, most, total, started;
} phases[MAX_PHASES];
static int n_phases;
static uint64_t count;
static char path[4096];

static void run(unsigned int cpu, void *n_instructions)
{
    (void)cpu;
    count += (uintptr_t)n_instructions;
}

/* The instructions of the two empty functions themselves are in the count: a few per call. */
static void begin(unsigned int cpu, void *phase)
{
    (void)cpu;
    phases[(uintptr_t)phase].started = count;
}

static void end(unsigned int cpu, void *argument)
{
    uintptr_t phase = (uintptr_t)argument;
    uint64_t n = count - phases[phase].started;

    (void)cpu;
    phases[phase].fewest = phases[phase].calls == 0 || n < phases[phase].fewest ? n : phases[phase].fewest;
    phases[phase].most = n > phases[phase].most ? n : phases[phase].most;
    phases[phase].total += n;
    phases[phase].calls++;
}

static void translated(qemu_plugin_id_t id, struct qemu_plugin_tb *tb)
{
    uint64_t address = qemu_plugin_insn_vaddr(qemu_plugin_tb_get_insn(tb, 0));
    uintptr_t phase;

    (void)id;
    qemu_plugin_register_vcpu_tb_exec_cb(tb, run, NO_REGISTERS, (void *)(uintptr_t)qemu_plugin_tb_n_insns(tb));
    for (phase = 0; phase < (uintptr_t)n_phases; phase++) {
        if (address == phases[phase].begin) {
            qemu_plugin_register_vcpu_tb_exec_cb(tb, begin, NO_REGISTERS, (void *)phase);
        }
        if (address == phases[phase].end) {
            qemu_plugin_register_vcpu_tb_exec_cb(tb, end, NO_REGISTERS, (void *)phase);
        }
    }
}

static void leave(qemu_plugin_id_t id, void *unused)
{
    FILE *file = fopen(path, "w");
    int phase;

    (void)id;
    (void)unused;
    if (file == NULL) {
        return;
    }
    for (phase = 0; phase < n_phases; phase++) {
        fprintf(file, "%s %llu %llu %llu %llu\n", phases[phase].name, (unsigned long long)phases[phase].calls,
                (unsigned long long)phases[phase].fewest, (unsigned long long)phases[phase].most,
                (unsigned long long)phases[phase].total);
    }
    fprintf(file, "all 1 %llu %llu %llu\n", (unsigned long long)count, (unsigned long long)count, (unsigned long long)count);
    fclose(file);
}

int qemu_plugin_install(qemu_plugin_id_t id, const void *info, int argc, char **argv)
{
    int i;

    (void)info;
    for (i = 0; i < argc; i++) {
        char *value = strchr(argv[i], '=');

        if (value == NULL || n_phases == MAX_PHASES) {
            return -1;
        }
        *value++ = '\0';
        if (strcmp(argv[i], "out") == 0) {
            snprintf(path, sizeof path, "%s", value);
            continue;
        }
        snprintf(phases[n_phases].name, sizeof phases[n_phases].name, "%s", argv[i]);
        phases[n_phases].begin = strtoull(value, &value, 16);
        phases[n_phases].end = strtoull(value + 1, NULL, 16);
        n_phases++;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, translated);
    qemu_plugin_register_atexit_cb(id, leave, NULL);
    return 0;
}
