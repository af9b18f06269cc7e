"""Fine-tune under a memory budget with a training loop of your own: loss, optimiser and data are yours."""

import torch
from torch.nn.functional import cross_entropy

import kilotune as kt
from kilotune.models.digitnet import pretrained_digitnet
from kilotune.policies import make

model, example = pretrained_digitnet(), torch.zeros(1, 3, 32, 32)
batches = [(torch.randn(16, 3, 32, 32), torch.arange(16) % 10) for _ in range(4)]

graph = kt.capture(model, example)
selector = kt.Selector.fit(graph, make("trady"), kt.Budget.parse("256KiB"), seed=0)
step = kt.prepare(model, example, selector.draw(), graph)
optimizer = torch.optim.SGD(step.parameters(), lr=0.02)
for epoch in range(3):
    for x, y in batches:
        loss = cross_entropy(step(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    kept = kt.saved_bytes(step, x, y)
    assert kept == kt.ledger(graph, step.plan, batch=len(x)).saved_bytes
    print(f"epoch {epoch + 1}: loss {loss.item():.3f}, autograd keeps {kept:,} B, as predicted")
    step.replan(selector.draw(), optimizer)
model = step.restore()
