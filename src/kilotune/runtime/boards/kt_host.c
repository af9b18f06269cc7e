/* The host's files and console through semihosting (Arm's "Semihosting for AArch32 and AArch64", also used by RISC-V). */
#include "kt_board.h"

#define SYS_OPEN 0x01u
#define SYS_WRITE0 0x04u
#define SYS_READ 0x06u
#define SYS_SEEK 0x0Au
#define READ_BINARY 1u
#define SYS_EXIT_EXTENDED 0x20u
#define APPLICATION_EXIT 0x20026u

void kt_board_exit(uint32_t code)
{
    uint32_t arguments[2];

    arguments[0] = APPLICATION_EXIT;
    arguments[1] = code;
    for (;;) {
        kt_semihost(SYS_EXIT_EXTENDED, arguments);
    }
}

void kt_print(const char *text)
{
    kt_semihost(SYS_WRITE0, text);
}

void kt_print_word(uint32_t word)
{
    char text[10];
    int place;

    for (place = 0; place < 8; place++) {
        text[place] = "0123456789abcdef"[word >> 28];
        word <<= 4;
    }
    text[8] = ' ';
    text[9] = '\0';
    kt_print(text);
}

int32_t kt_host_open(const char *path)
{
    uintptr_t arguments[3];
    const char *end = path;

    while (*end != '\0') {
        end++;
    }
    arguments[0] = (uintptr_t)path;
    arguments[1] = READ_BINARY;
    arguments[2] = (uintptr_t)(end - path);
    return (int32_t)kt_semihost(SYS_OPEN, arguments);
}

uint32_t kt_host_read(int32_t handle, void *to, uint32_t n)
{
    uintptr_t arguments[3];

    arguments[0] = (uintptr_t)handle;
    arguments[1] = (uintptr_t)to;
    arguments[2] = n;
    return kt_semihost(SYS_READ, arguments);
}

uint32_t kt_host_seek(int32_t handle, uint32_t place)
{
    uintptr_t arguments[2];

    arguments[0] = (uintptr_t)handle;
    arguments[1] = place;
    return kt_semihost(SYS_SEEK, arguments);
}
