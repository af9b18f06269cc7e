/* Start-up of Cortex-M3 to M55: vector table, floating point unit, memory protection, faults. */
#include "kt_board.h"

#define REGISTER(address) (*(volatile uint32_t *)(address))
#define CPACR REGISTER(0xE000ED88u)
#define SHCSR REGISTER(0xE000ED24u)
#define CFSR REGISTER(0xE000ED28u)
#define MMFAR REGISTER(0xE000ED34u)
#define BFAR REGISTER(0xE000ED38u)
#define MPU_CTRL REGISTER(0xE000ED94u)
#define MPU_RNR REGISTER(0xE000ED98u)
#define MPU_RBAR REGISTER(0xE000ED9Cu)
#define MPU_RASR REGISTER(0xE000EDA0u)
#define MPU_RLAR REGISTER(0xE000EDA0u)
#define MPU_MAIR0 REGISTER(0xE000EDC0u)

#define FAULT_EXIT_CODE 3u
#define ALL_FAULTS_ENABLED (7u << 16)
#define MPU_ENABLE 1u
#define MPU_BACKGROUND 4u

void kt_reset(void) __attribute__((naked, noreturn));
void kt_fault(void) __attribute__((naked, noreturn));
void kt_report_fault(const uint32_t *frame) __attribute__((noreturn));

typedef void (*handler)(void);

/* One element per vector; the first one is the initial stack pointer. */
__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    handler handlers[15];
} vectors = {
    kt_stack_top,
    {kt_reset, kt_fault, kt_fault, kt_fault, kt_fault, kt_fault, kt_fault, kt_fault, kt_fault, kt_fault, kt_fault,
     kt_fault, kt_fault, kt_fault, kt_fault},
};

/* The floating point unit comes first: compilers use its registers wherever they like. */
void kt_reset(void)
{
    __asm__ volatile(
#if defined(__ARM_FP)
        "ldr r0, =0xE000ED88\n"
        "ldr r1, [r0]\n"
        "orr r1, r1, #0xF00000\n"
        "str r1, [r0]\n"
        "dsb\n"
        "isb\n"
#endif
        "ldr r0, =kt_stack_top\n"
        "mov sp, r0\n"
        "b kt_board_run\n"
        ".ltorg\n");
}

/* The stack may be what is broken: the report starts on a fresh one. */
void kt_fault(void)
{
    __asm__ volatile("mov r0, sp\n"
                     "ldr r1, =kt_stack_top\n"
                     "mov sp, r1\n"
                     "b kt_report_fault\n"
                     ".ltorg\n");
}

void kt_report_fault(const uint32_t *frame)
{
    uint32_t status = CFSR;

    MPU_CTRL = 0;
    kt_print("fault ");
    kt_print_word(status);
    kt_print_word(status & 0x80u ? MMFAR : BFAR);
    kt_print_word(frame >= kt_stack_bottom && frame + 8 <= kt_stack_top ? frame[6] : 0);
    kt_print("\n");
    kt_board_exit(FAULT_EXIT_CODE);
}

#if defined(__ARM_ARCH_8M_MAIN__) || defined(__ARM_ARCH_8_1M_MAIN__)

#define READ_ONLY 4u
#define NEVER_EXECUTE 1u

static void allow(uint32_t number, const uint32_t *start, const uint32_t *end, uint32_t attributes)
{
    if (start != end) {
        MPU_RNR = number;
        MPU_RBAR = (uint32_t)start | attributes;
        MPU_RLAR = (((uint32_t)end - 1u) & ~31u) | 1u;
    }
}

/* PMSAv8: without the background map only what is listed can be reached. */
void kt_guard_ram(void)
{
    SHCSR |= ALL_FAULTS_ENABLED;
    MPU_MAIR0 = 0x44u;
    allow(0, kt_flash_start, kt_flash_end, READ_ONLY);
    allow(1, kt_ram_start, kt_ram_limit, NEVER_EXECUTE);
    allow(2, kt_external_start, kt_external_end, NEVER_EXECUTE);
    MPU_CTRL = MPU_ENABLE;
    __asm__ volatile("dsb\nisb\n" ::: "memory");
}

#else

#define SIZE_FIELD(log2_bytes) (((log2_bytes) - 1u) << 1 | 1u)
#define READ_WRITE (3u << 24)
#define NEVER_EXECUTE (1u << 28)
#define NORMAL_MEMORY (1u << 19)
#define NO_ACCESS NEVER_EXECUTE
#define WINDOW_LOG2 24u
#define BELOW_LOG2 20u

static void region(uint32_t number, uint32_t base, uint32_t attributes)
{
    MPU_RNR = number;
    MPU_RBAR = base;
    MPU_RASR = attributes;
}

/* PMSAv7: 16 MiB without access from the RAM on, 1 MiB below it, and on top as few regions with access as the limit needs. A region
   is a power of two, cut into eighths of which any may be left out, so that each region adds three binary digits of the limit. */
void kt_guard_ram(void)
{
    uint32_t base = (uint32_t)kt_ram_start, limit = ((uint32_t)kt_ram_limit + 31u) & ~31u;
    uint32_t number = 2;

    SHCSR |= ALL_FAULTS_ENABLED;
    region(0, base & ~((1u << WINDOW_LOG2) - 1u), SIZE_FIELD(WINDOW_LOG2) | NO_ACCESS | NORMAL_MEMORY);
    region(1, base - (1u << BELOW_LOG2), SIZE_FIELD(BELOW_LOG2) | NO_ACCESS | NORMAL_MEMORY);
    while (base < limit) {
        uint32_t log2_bytes = 8, aligned, first, last;

        while (log2_bytes < WINDOW_LOG2 && (1u << log2_bytes) < limit - base && base % (2u << log2_bytes) == 0) {
            log2_bytes++;
        }
        aligned = base & ~((1u << log2_bytes) - 1u);
        first = (base - aligned) >> (log2_bytes - 3);
        last = (limit - aligned) >> (log2_bytes - 3);
        last = last > 8 ? 8 : last;
        region(number++, aligned,
               SIZE_FIELD(log2_bytes) | READ_WRITE | NEVER_EXECUTE | NORMAL_MEMORY |
                   (0xFFu ^ ((1u << last) - (1u << first))) << 8);
        base = aligned + (last << (log2_bytes - 3));
    }
    MPU_CTRL = MPU_ENABLE | MPU_BACKGROUND;
    __asm__ volatile("dsb\nisb\n" ::: "memory");
}

#endif

uint32_t kt_semihost(uint32_t operation, const void *arguments)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = arguments;

    __asm__ volatile("bkpt 0xAB" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}
