#include "kt_board.h"

#define UNTOUCHED 0xA5A5A5A5u

/* Loops over volatile words: the compiler must not turn them into calls of memcpy before there is a C environment. */
void kt_board_run(void)
{
    volatile uint32_t *to;
    const uint32_t *from = kt_data_image;

    kt_guard_ram();
    for (to = kt_data_start; to < (volatile uint32_t *)kt_data_end; to++) {
        *to = *from++;
    }
    for (to = kt_bss_start; to < (volatile uint32_t *)kt_bss_end; to++) {
        *to = 0;
    }
    for (to = (volatile uint32_t *)__builtin_frame_address(0) - 32; to > (volatile uint32_t *)kt_stack_bottom; to--) {
        to[-1] = UNTOUCHED;
    }
    kt_board_exit((uint32_t)main());
}

uint32_t kt_stack_high_water(void)
{
    const uint32_t *word = kt_stack_bottom;

    while (word < kt_stack_top && *word == UNTOUCHED) {
        word++;
    }
    return (uint32_t)((const char *)kt_stack_top - (const char *)word);
}

uint8_t *kt_external_memory(uint32_t *nbytes)
{
    *nbytes = (uint32_t)((const char *)kt_external_end - (const char *)kt_external_start);
    return (uint8_t *)kt_external_start;
}
