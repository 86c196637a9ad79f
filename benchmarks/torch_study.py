"""The 40 runs of `zeroinit study digits` as a user would write them in PyTorch: a loop over configs. Prints JSON.

  python benchmarks/torch_study.py                 # one process, all cores
  python benchmarks/torch_study.py --processes=2   # the runs shared among processes of one thread each

The networks are those of torch_wrn.py; what a run saves is its weights. Needs torch and scikit-learn, nothing of
zeroinit.
"""

import argparse
import collections
import functools
import itertools
import json
import math
import multiprocessing
import pathlib
import statistics
import tempfile

import numpy as np
import torch
import torch_wrn
from torch.nn import functional

METHODS, DEPTHS, LOG2_RATES = ('none', 'batch_norm', 'fixup', 'zeroinit'), (16, 100), range(-4, 5, 2)
BATCH_SIZE, EPOCHS, EVALUATIONS, CLASSES = 64, 4, 5, 10


@functools.cache
def digits():
  """((images, labels) to train on, the same to test on): the first 80 %, and the rest."""
  from sklearn.datasets import load_digits
  pixels, labels = load_digits(return_X_y=True)
  order = np.random.default_rng(0).permutation(len(labels))
  images = torch.from_numpy(pixels.reshape(-1, 1, 8, 8)[order]).float()
  labels = torch.from_numpy(labels[order])
  train = len(labels) * 4 // 5
  images = (images - images[:train].mean()) / images[:train].std()
  return (images[:train], labels[:train]), (images[train:], labels[train:])


def run(config, train, test, directory):
  """Trains one network. Returns {'method', 'depth', 'rate', 'updates', 'test_accuracy'}."""
  method, depth, log2_rate = config
  torch.manual_seed(0)
  net = torch_wrn.wide_resnet(depth, 1, method, channels=1).to(memory_format=torch.channels_last)
  torch.nn.init.zeros_(net[-1].weight)
  kernels = [weight for weight in net.parameters() if weight.ndim > 1]
  rest = [weight for weight in net.parameters() if weight.ndim <= 1]
  optimizer = torch.optim.SGD(
      [{'params': kernels, 'weight_decay': 5e-4}, {'params': rest, 'weight_decay': 0.0}],
      lr=2.0**log2_rate, momentum=0.9, dampening=0.9, fused=True)
  images, labels = train
  per_epoch = len(images) // BATCH_SIZE
  steps = EPOCHS * per_epoch
  drops = [round((0.5 + i / 20) * steps) for i in range(10)]
  evaluations = {round((i + 1) * steps / EVALUATIONS) for i in range(EVALUATIONS)}
  accuracy, update = 1 / CLASSES, 0
  while update < steps:
    for batch in torch.randperm(len(images))[: per_epoch * BATCH_SIZE].split(BATCH_SIZE):
      for group in optimizer.param_groups:
        group['lr'] = 2.0**log2_rate * 0.5 ** sum(update >= drop for drop in drops)
      optimizer.zero_grad(set_to_none=True)
      loss = functional.cross_entropy(net(images[batch].contiguous(memory_format=torch.channels_last)), labels[batch])
      loss.backward()
      optimizer.step()
      update += 1
      if not math.isfinite(loss.item()):
        return {'method': method, 'depth': depth, 'rate': 2.0**log2_rate, 'updates': update, 'test_accuracy': None}
      if update in evaluations:
        accuracy = evaluate(net, *test)
  torch.save(net.state_dict(), directory / f'{method}_{depth}_{log2_rate}.pt')
  return {'method': method, 'depth': depth, 'rate': 2.0**log2_rate, 'updates': update, 'test_accuracy': accuracy}


@torch.no_grad()
def evaluate(net, images, labels):
  net.eval()
  accuracy = (net(images.contiguous(memory_format=torch.channels_last)).argmax(1) == labels).float().mean().item()
  net.train()
  return accuracy


def work(config, directory):
  """The result of one run."""
  return run(config, *digits(), pathlib.Path(directory))


def main():
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--processes', type=int, default=1)
  args = parser.parse_args()
  configs = list(itertools.product(METHODS, DEPTHS, LOG2_RATES))
  with tempfile.TemporaryDirectory() as directory:
    each = functools.partial(work, directory=directory)
    if args.processes == 1:
      results = list(map(each, configs))
    else:  # the long ones first, so that nobody waits at the end
      configs.sort(key=lambda config: -config[1])
      with multiprocessing.get_context('spawn').Pool(args.processes, torch.set_num_threads, (1,)) as pool:
        results = pool.map(each, configs, chunksize=1)
  best = collections.defaultdict(lambda: 1 / CLASSES)
  for result in results:
    name = f'{result["method"]}, depth {result["depth"]}'
    best[name] = max(best[name], result['test_accuracy'] or 0.0)
  print(json.dumps({
      'framework': f'torch {torch.__version__}', 'runs': len(results),
      'diverged': sum(result['test_accuracy'] is None for result in results),
      'updates': sum(result['updates'] for result in results),
      'mean_best_accuracy': statistics.mean(best.values()), 'best_accuracy': best}))


if __name__ == '__main__':
  main()
