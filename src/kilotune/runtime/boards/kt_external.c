/* The memory behind the RAM limit as flash for the weight store: pages that are erased to ones, writes that only clear bits. */
#include "kt_board.h"

#define PAGE_BYTES 4096u

static uint8_t *cells;

static int read_cells(uint32_t address, void *to, uint32_t n)
{
    uint8_t *byte = to;
    const uint8_t *from = cells + address;

    while (n-- > 0) {
        *byte++ = *from++;
    }
    return 0;
}

static int erase_page(uint32_t page)
{
    uint32_t *word = (uint32_t *)(void *)(cells + page * PAGE_BYTES), n = PAGE_BYTES / 4;

    while (n-- > 0) {
        *word++ = 0xFFFFFFFFu;
    }
    return 0;
}

static int write_cells(uint32_t address, const void *from, uint32_t n)
{
    const uint8_t *byte = from;
    uint8_t *to = cells + address;

    while (n-- > 0) {
        *to++ &= *byte++;
    }
    return 0;
}

const kt_medium *kt_external_medium(void)
{
    static kt_medium medium = {read_cells, erase_page, write_cells, PAGE_BYTES, 0, 0};
    uint32_t nbytes;

    cells = kt_external_memory(&nbytes);
    medium.n_pages = nbytes / PAGE_BYTES;
    medium.map = cells;
    return nbytes == 0 ? 0 : &medium;
}
