/* Start-up of RV32: floating point unit, traps, physical memory protection. */
#include "kt_board.h"

#define FAULT_EXIT_CODE 3u
#define PMP_TOP_OF_RANGE 0x08u
#define PMP_LOCKED 0x80u

void kt_reset(void) __attribute__((naked, noreturn, section(".vectors"), used));
void kt_fault(void) __attribute__((naked, noreturn, aligned(4)));
void kt_report_fault(uint32_t cause, uint32_t address, uint32_t pc) __attribute__((noreturn));

void kt_reset(void)
{
    __asm__ volatile("li t0, 0x2000\n"
                     "csrs mstatus, t0\n"
                     "la t0, kt_fault\n"
                     "csrw mtvec, t0\n"
                     "la sp, kt_stack_top\n"
                     "j kt_board_run\n");
}

/* The stack may be what is broken: the report starts on a fresh one. */
void kt_fault(void)
{
    __asm__ volatile("la sp, kt_stack_top\n"
                     "csrr a0, mcause\n"
                     "csrr a1, mtval\n"
                     "csrr a2, mepc\n"
                     "j kt_report_fault\n");
}

void kt_report_fault(uint32_t cause, uint32_t address, uint32_t pc)
{
    kt_print("fault ");
    kt_print_word(cause);
    kt_print_word(address);
    kt_print_word(pc);
    kt_print("\n");
    kt_board_exit(FAULT_EXIT_CODE);
}

/* Two locked ranges without access: below the stack, and from the limit of the RAM to where the external memory starts. */
void kt_guard_ram(void)
{
    uint32_t ranges[4];

    ranges[0] = ((uint32_t)kt_ram_start - 4096u) >> 2;
    ranges[1] = (uint32_t)kt_ram_start >> 2;
    ranges[2] = ((uint32_t)kt_ram_limit + 3u) >> 2;
    ranges[3] = (uint32_t)kt_external_start >> 2;
    __asm__ volatile("csrw pmpaddr0, %0\n"
                     "csrw pmpaddr1, %1\n"
                     "csrw pmpaddr2, %2\n"
                     "csrw pmpaddr3, %3\n"
                     "csrw pmpcfg0, %4\n" ::"r"(ranges[0]),
                     "r"(ranges[1]), "r"(ranges[2]), "r"(ranges[3]),
                     "r"((PMP_TOP_OF_RANGE | PMP_LOCKED) << 8 | (PMP_TOP_OF_RANGE | PMP_LOCKED) << 24)
                     : "memory");
}

uint32_t kt_semihost(uint32_t operation, const void *arguments)
{
    register uint32_t a0 __asm__("a0") = operation;
    register const void *a1 __asm__("a1") = arguments;

    /* The three instructions that mark a semihosting call, uncompressed and on one page. */
    __asm__ volatile(".option push\n"
                     ".option norvc\n"
                     ".balign 16\n"
                     "slli x0, x0, 0x1f\n"
                     "ebreak\n"
                     "srai x0, x0, 7\n"
                     ".option pop\n"
                     : "+r"(a0)
                     : "r"(a1)
                     : "memory");
    return a0;
}
