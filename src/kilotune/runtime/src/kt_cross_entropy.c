#include "kt_kernels.h"

/* Softmax cross-entropy of logits (n) against a label; dlogits (n) receives its gradient, and may be NULL. */
float kt_cross_entropy(const float *logits, uint32_t label, float *dlogits, int n)
{
    float most = logits[0], sum = 0.0f;
    for (int i = 1; i < n; i++) {
        most = logits[i] > most ? logits[i] : most;
    }
    for (int i = 0; i < n; i++) {
        sum += kt_expf(logits[i] - most);
    }
    const float log_sum = kt_logf(sum), loss = log_sum - (logits[label] - most);
    for (int i = 0; i < n && dlogits; i++) {
        dlogits[i] = kt_expf(logits[i] - most - log_sum) - (i == (int)label ? 1.0f : 0.0f);
    }
    return loss;
}
