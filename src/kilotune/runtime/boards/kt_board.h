/* What the start-up code of a board offers to the firmware that kilotune emulates. */
#ifndef KT_BOARD_H
#define KT_BOARD_H

#include "kt_store.h"

#include <stdint.h>

/* Ends the program with an exit code; under an emulator it becomes that of the emulator. */
void kt_board_exit(uint32_t code) __attribute__((noreturn));

/* One semihosting call: operation and address of its arguments; returns the host's answer. */
uint32_t kt_semihost(uint32_t operation, const void *arguments);

/* Bytes of the stack that were ever written to. */
uint32_t kt_stack_high_water(void);

/* Makes every access to the RAM from kt_ram_limit on fault; bytes short of the protection unit's granule are rounded up. */
void kt_guard_ram(void);

/* Fills the unused part of the stack with a pattern, copies .data, clears .bss, guards the RAM, runs the program. */
void kt_board_run(void) __attribute__((noreturn));

/* Writes text, or a word as eight hexadecimal digits, to the host's standard output. */
void kt_print(const char *text);
void kt_print_word(uint32_t word);

/* Opens a file of the host for reading (a handle, or -1), reads n bytes (0 if all came), goes to a place (0 if that worked). */
int32_t kt_host_open(const char *path);
uint32_t kt_host_read(int32_t handle, void *to, uint32_t n);
uint32_t kt_host_seek(int32_t handle, uint32_t place);

/* The memory that the board has for the weight store, 0 bytes if none; and the same as pages of flash, NULL if none. */
uint8_t *kt_external_memory(uint32_t *nbytes);
const kt_medium *kt_external_medium(void);

/* Symbols of firmware.ld. */
extern uint32_t kt_stack_bottom[], kt_stack_top[], kt_ram_start[], kt_ram_limit[];
extern uint32_t kt_data_start[], kt_data_end[], kt_data_image[], kt_bss_start[], kt_bss_end[];
extern uint32_t kt_flash_start[], kt_flash_end[], kt_external_start[], kt_external_end[];

/* The program. */
int main(void);

#endif
