"""The same training in PyTorch, as fast as PyTorch allows: what ours is measured against. Prints one JSON line.

  python benchmarks/torch_wrn.py --method=zeroinit --batch_size=64                                # CPU
  python benchmarks/torch_wrn.py --method=zeroinit --batch_size=64 --device=cuda --dtype=bfloat16 --compile

The images are random and lie on the device as uint8; cropping and mirroring is one gather, memory is channels-last, the
optimizer fused. Needs torch alone, nothing of zeroinit.
"""

import argparse
import contextlib
import json
import statistics
import time

import torch
from torch import nn
from torch.nn import functional


class GhostNorm(nn.BatchNorm2d):
  """Batch norm whose statistics are over groups of 64 examples."""

  def forward(self, x):
    batch, channels, height, width = x.shape
    groups = max(batch // 64, 1)
    if groups == 1 or not self.training:
      return super().forward(x)
    x = x.reshape(groups, -1, channels, height, width).transpose(0, 1).reshape(-1, groups * channels, height, width)
    repeat = lambda values: values.repeat(groups)
    x = functional.batch_norm(x, None, None, repeat(self.weight), repeat(self.bias), True, 0.0, self.eps)
    return x.reshape(-1, groups, channels, height, width).transpose(0, 1).reshape(batch, channels, height, width)


class ScaledBranch(nn.Module):
  """A pre-activation block: shortcut + alpha * branch."""

  def __init__(self, entering, channels, stride, norm, bias, scaled):
    super().__init__()
    make_norm = {'batch_norm': nn.BatchNorm2d, 'ghost_norm': GhostNorm}.get(norm, lambda _: nn.Identity())
    self.first = nn.Sequential(make_norm(entering), nn.ReLU())
    self.branch = nn.Sequential(
        nn.Conv2d(entering, channels, 3, stride, 1, bias=bias), make_norm(channels), nn.ReLU(),
        nn.Conv2d(channels, channels, 3, 1, 1, bias=bias))
    changes = stride > 1 or entering != channels
    self.projection = nn.Conv2d(entering, channels, 1, stride, bias=bias) if changes else None
    self.alpha = nn.Parameter(torch.zeros(())) if scaled else None

  def forward(self, x):
    h = self.first(x)
    shortcut = self.projection(h) if self.projection is not None else x
    h = self.branch(h)
    return shortcut + (h if self.alpha is None else self.alpha * h)


class Bias(nn.Module):
  """Adds one trained number."""

  def __init__(self):
    super().__init__()
    self.bias = nn.Parameter(torch.zeros(()))

  def forward(self, x):
    return x + self.bias


class FixupBranch(nn.Module):
  """A pre-activation block by Fixup's rules (arXiv:1901.09321), of a network of so many blocks."""

  def __init__(self, entering, channels, stride, blocks):
    super().__init__()
    self.first = nn.Sequential(Bias(), nn.ReLU(), Bias())
    before, self.last = (nn.Conv2d(entering, channels, 3, stride, 1, bias=False),
                         nn.Conv2d(channels, channels, 3, 1, 1, bias=False))
    self.branch = nn.Sequential(before, Bias(), nn.ReLU(), Bias(), self.last)
    changes = stride > 1 or entering != channels
    self.projection = nn.Conv2d(entering, channels, 1, stride, bias=False) if changes else None
    self.alpha = nn.Parameter(torch.ones(()))
    self.scales = {before: blocks**-0.5, self.last: 0.0}

  def forward(self, x):
    h = self.first(x)
    shortcut = self.projection(h) if self.projection is not None else x
    return shortcut + self.alpha * self.branch(h)


def wide_resnet(depth, width, method, channels=3):
  bias = scaled = method == 'zeroinit'
  blocks = (depth - 4) // 6
  entering, parts = 16, [nn.Conv2d(channels, 16, 3, 1, 1, bias=bias)]
  for features, stride in ((16, 1), (32, 2), (64, 2)):
    for block in range(blocks):
      shape = (entering, features * width, stride if block == 0 else 1)
      entering = features * width
      parts.append(FixupBranch(*shape, 3 * blocks) if method == 'fixup'
                   else ScaledBranch(*shape, method, bias, scaled))
  channels = entering
  if method in ('batch_norm', 'ghost_norm'):
    parts.append(GhostNorm(channels) if method == 'ghost_norm' else nn.BatchNorm2d(channels))
  parts += [nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()]
  if method == 'zeroinit':
    parts.append(nn.Dropout(0.6))
  net = nn.Sequential(*parts, nn.Linear(channels, 10))
  for module in net.modules():
    if isinstance(module, nn.Conv2d):
      nn.init.kaiming_normal_(module.weight, nonlinearity='relu')
  for module in net.modules():
    for scaled, factor in getattr(module, 'scales', {}).items():
      scaled.weight.data *= factor
  return net


class Data:
  """50,000 random images on the device, drawn in batches that are padded by reflection, cropped and mirrored."""

  def __init__(self, device, batch_size):
    generator = torch.Generator().manual_seed(0)
    self.images = torch.randint(0, 256, (50_000, 32, 32, 3), dtype=torch.uint8, generator=generator).to(device)
    self.labels = torch.randint(0, 10, (50_000,), generator=generator).to(device)
    self.mean = torch.tensor((125.3, 123.0, 113.9), device=device)
    self.std = torch.tensor((63.0, 62.1, 66.7), device=device)
    self.place = torch.arange(32, device=device)
    self.device, self.batch_size = device, batch_size

  def draw(self):
    """Which images, and where each is cut and whether it is mirrored."""
    size = (self.batch_size,)
    integers = lambda low, high: torch.randint(low, high, size, device=self.device)
    return integers(0, len(self.images)), integers(-4, 5), integers(-4, 5), integers(0, 2).bool()

  def batch(self, example, down, right, mirrored):
    reflect = lambda places: 31 - (31 - places.abs()).abs()
    rows = reflect(self.place + down[:, None])
    columns = reflect(torch.where(mirrored[:, None], self.place.flip(0), self.place) + right[:, None])
    images = self.images[example[:, None, None], rows[:, :, None], columns[:, None, :]]
    return ((images - self.mean) / self.std).permute(0, 3, 1, 2), self.labels[example]  # channels-last in memory


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--method', default='zeroinit',
                      choices=('batch_norm', 'fixup', 'ghost_norm', 'none', 'zeroinit'))
  parser.add_argument('--depth', type=int, default=16)
  parser.add_argument('--width', type=int, default=4)
  parser.add_argument('--batch_size', type=int, default=64)
  parser.add_argument('--device', default='cpu')
  parser.add_argument('--dtype', default='float32', choices=('float32', 'bfloat16'))
  parser.add_argument('--compile', action='store_true')
  parser.add_argument('--seconds', type=float, default=10.0, help='how long to measure, after warming up')
  args = parser.parse_args()

  device, on_gpu = torch.device(args.device), args.device.startswith('cuda')
  torch.backends.cudnn.benchmark = True
  torch.set_float32_matmul_precision('high')  # TF32, as JAX does on an NVIDIA GPU
  torch.backends.cudnn.allow_tf32 = True
  net = wide_resnet(args.depth, args.width, args.method).to(device, memory_format=torch.channels_last)
  optimizer = torch.optim.SGD(net.parameters(), 1e-3, 0.9, weight_decay=5e-4, fused=True)
  data = Data(device, args.batch_size)
  half = torch.autocast(device.type, torch.bfloat16) if args.dtype == 'bfloat16' else contextlib.nullcontext()

  def loss_of(*drawn):
    images, labels = data.batch(*drawn)
    with half:
      logits = net(images)
    return functional.cross_entropy(logits.float(), labels)

  if args.compile:
    # On a GPU with CUDA graphs, without which a small batch waits for the host.
    loss_of = torch.compile(loss_of, mode='reduce-overhead' if on_gpu else 'default')

  def update():
    optimizer.zero_grad(set_to_none=True)
    loss_of(*data.draw()).backward()
    optimizer.step()

  def updates_per_second(seconds):
    began, done = time.perf_counter(), 0
    while time.perf_counter() - began < seconds:
      for _ in range(20 if on_gpu else 1):
        update()
        done += 1
      if on_gpu:
        torch.cuda.synchronize()
    return done / (time.perf_counter() - began)

  began = time.perf_counter()
  update()
  if on_gpu:
    torch.cuda.synchronize()
  first = time.perf_counter() - began
  updates_per_second(args.seconds / 5)
  speeds = [args.batch_size * updates_per_second(args.seconds / 5) for _ in range(5)]
  print(json.dumps({
      'framework': f'torch {torch.__version__}', 'images_per_second': statistics.median(speeds),
      'first_step_seconds': first,
      'peak_memory_mb': torch.cuda.max_memory_allocated() / 1e6 if on_gpu else None}))


if __name__ == '__main__':
  main()
