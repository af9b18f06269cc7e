#include "kt_store.h"

int kt_store_sum(const kt_medium *medium, uint32_t address, uint32_t n, uint32_t *crc)
{
    uint8_t unit[KT_STORE_UNIT];

    *crc = 0;
    while (n > 0) {
        const uint32_t part = n < KT_STORE_UNIT ? n : KT_STORE_UNIT;

        if (medium->read(address, unit, part) != 0) {
            return KT_STORE_FAILED;
        }
        *crc = kt_crc32(*crc, unit, part);
        address += part;
        n -= part;
    }
    return 0;
}
