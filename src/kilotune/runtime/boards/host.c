/* The same session on the computer itself: what semihosting does for a board, with the C library. No limit on the RAM. */
#include "kt_board.h"

#include <stdio.h>
#include <stdlib.h>

static FILE *file;

void kt_board_exit(uint32_t code)
{
    exit((int)code);
}

void kt_print(const char *text)
{
    fputs(text, stdout);
}

void kt_print_word(uint32_t word)
{
    printf("%08lx ", (unsigned long)word);
}

int32_t kt_host_open(const char *path)
{
    file = fopen(path, "rb");
    return file == NULL ? -1 : 0;
}

uint32_t kt_host_read(int32_t handle, void *to, uint32_t n)
{
    (void)handle;
    return n - (uint32_t)fread(to, 1, n, file);
}

uint32_t kt_host_seek(int32_t handle, uint32_t place)
{
    (void)handle;
    return (uint32_t)fseek(file, (long)place, SEEK_SET);
}

uint32_t kt_stack_high_water(void)
{
    return 0;
}

uint8_t *kt_external_memory(uint32_t *nbytes)
{
    static uint32_t memory[1u << 22];

    *nbytes = sizeof memory;
    return (uint8_t *)memory;
}
