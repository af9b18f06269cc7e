// Learns from whatever `capture` delivers; shows the loss.
extern "C" {
#include <kt_project.h>
}

// Replace by your camera and your label: fills the image that the network reads next, returns its class.
static uint32_t capture(kt_pixel *image) {
  for (uint32_t i = 0; i < KT_IMAGE_ELEMENTS; i++) {
    image[i] = 0;
  }
  return 0;
}

void setup() {
  Serial.begin(115200);
  int code = kt_start();
  if (code < 0) {
    Serial.println(code);
    for (;;) {
    }
  }
}

void loop() {
  uint32_t label = capture(kt_image());
  float loss = kt_train_step(kt_image(), label);
  kt_apply();
  Serial.println(loss, 6);
}
