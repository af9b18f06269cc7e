// Learns from whatever `capture` delivers; shows the loss.
#include <string.h>

extern "C" {
#include <kt_project.h>
}

#if KT_STORE_BYTES > 0
const uint32_t STEPS_PER_DRAW = 100;

// Where trained weights are committed: here in RAM, which forgets them. Replace the three functions by those of your flash.
const uint32_t PAGE_BYTES = 4096;
static uint8_t pages[KT_STORE_BYTES];

static int read_pages(uint32_t address, void *to, uint32_t n) {
  memcpy(to, pages + address, n);
  return 0;
}

static int erase_page(uint32_t page) {
  memset(pages + page * PAGE_BYTES, 0xff, PAGE_BYTES);
  return 0;
}

static int write_pages(uint32_t address, const void *from, uint32_t n) {
  memcpy(pages + address, from, n);
  return 0;
}

static const kt_medium store = {read_pages, erase_page, write_pages, PAGE_BYTES, KT_STORE_BYTES / PAGE_BYTES, pages};
#endif

// Replace by your camera and your label: fills the image that the network reads next, returns its class.
static uint32_t capture(kt_pixel *image) {
  for (uint32_t i = 0; i < KT_IMAGE_ELEMENTS; i++) {
    image[i] = 0;
  }
  return 0;
}

static void check(int code) {
  if (code < 0) {
    Serial.println(code);  // The codes are in kt_types.h and kt_store.h.
    for (;;) {
    }
  }
}

void setup() {
  Serial.begin(115200);
#if KT_STORE_BYTES > 0
  for (uint32_t page = 0; page < store.n_pages; page++) {
    erase_page(page);  // Leave this out where the store survives without power.
  }
  kt_use_store(&store);
#endif
  check(kt_start());
}

void loop() {
  uint32_t label = capture(kt_image());
  float loss = kt_train_step(kt_image(), label);
  kt_apply();
  Serial.println(loss, 6);
#if KT_STORE_BYTES > 0
  static uint32_t n_steps = 0;
  if (++n_steps % STEPS_PER_DRAW == 0) {
    check(kt_redraw());  // Commits what was trained, and chooses anew what to train.
  }
#endif
}
