"""The library works: from a network nobody has seen to a tuned one inside a budget, in seconds."""

import torch
import torch.nn.functional as F
from torch import nn

import kilotune as kt

BUDGET = "24KiB"


def network():
    """A small residual network with everything that matters: depthwise, batch norm, ReLU6, pooling."""

    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU6())
            self.expand = nn.Sequential(nn.Conv2d(8, 16, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU6())
            self.depth = nn.Sequential(
                nn.Conv2d(16, 16, 3, 1, 1, groups=16, bias=False), nn.BatchNorm2d(16), nn.ReLU6()
            )
            self.project = nn.Sequential(nn.Conv2d(16, 8, 1, bias=False), nn.BatchNorm2d(8))
            self.head = nn.Linear(8, 4)

        def forward(self, x):
            x = self.stem(x)
            return self.head((x + self.project(self.depth(self.expand(x)))).mean((2, 3)))

    torch.manual_seed(0)
    return Network()


def images(n, seed):
    """Four classes: which quarter of the image is bright."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(n, 3, 16, 16, generator=generator), torch.arange(n) % 4
    for place in range(n):
        row, column = divmod(int(y[place]), 2)
        x[place, row, 8 * row : 8 * row + 8, 8 * column : 8 * column + 8] += 2
    return x, y


def test_own_loop():
    model, example = network(), torch.zeros(1, 3, 16, 16)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    graph = kt.capture(model, example)
    selector = kt.Selector.fit(graph, kt.POLICIES["medyate"](), kt.Budget.parse(BUDGET))
    plan = selector.draw()
    step = kt.prepare(model, example, plan, graph=graph)
    optimizer = torch.optim.SGD(step.parameters(), lr=0.5)
    x, y = images(32, seed=0)
    losses = []
    for _ in range(60):
        report = kt.ledger(graph, plan, batch=1)
        assert report.total_bytes <= selector.worst_case.total_bytes <= 24 * 1024
        assert kt.saved_bytes(step, x[:1], y[:1].clone()) == report.saved_bytes
        optimizer.zero_grad()
        loss = F.cross_entropy(step(x), y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        selector.observe(plan, {layer: norms.numpy() for layer, norms in step.channel_norms().items()})
        plan = selector.draw()
        step.replan(plan, optimizer)
    assert min(losses[-5:]) < 0.5 * losses[0]
    assert step.restore() is model
    changed = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert "head.weight" in changed
    assert not any("running" in name or "num_batches" in name for name in changed)


def test_fine_tuner(tmp_path):
    x, y = images(64, seed=0)
    batches = [(x[i : i + 16], y[i : i + 16]) for i in range(0, 64, 16)]
    tuner = kt.FineTuner(network(), torch.zeros(1, 3, 16, 16), budget=BUDGET, policy="trady", lr=0.1)
    tuner.fit(batches, batches, epochs=2, quiet=True)
    tuner.save(tmp_path / "run")
    assert (tmp_path / "run" / "run.json").exists()
    assert 0 <= tuner.evaluate(batches).accuracy <= 1
