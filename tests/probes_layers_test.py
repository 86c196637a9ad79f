"""The layers of networks: counted along their depth, and those of them that stand for the others."""

from probing import wide

from zeroinit.methods import METHODS
from zeroinit.networks.resnet import CifarResNet, ResNet50V2
from zeroinit.networks.vgg import VGG
from zeroinit.probes import layers


def names(net, size=32):
  return [layer.name for layer in layers.along_depth(net, (size, size, 3))]


def test_layers_are_counted_along_the_depth():
  blocks = [f'stage{stage}/{block}' for stage in (1, 2, 3) for block in ('first/conv1', 'first/conv2',
                                                                         'rest/conv1[0]', 'rest/conv2[0]')]
  assert names(wide('none', 16)) == names(CifarResNet(depth=14, method=METHODS['fixup'])) == [
      'stem', *blocks, 'classifier']
  assert names(VGG(method=METHODS['biases'], num_classes=10)) == [*(f'conv{i}' for i in range(1, 14)), 'classifier']
  bottlenecks = names(ResNet50V2(method=METHODS['none'], num_classes=10), 64)
  assert len(bottlenecks) == 50 and bottlenecks[1:7] == [
      *(f'stage1/first/conv{i}' for i in (1, 2, 3)), *(f'stage1/rest/conv{i}[0]' for i in (1, 2, 3))]


def test_without_stages_the_middle_ones_lie_evenly():
  plain = VGG(method=METHODS['biases'], num_classes=10)
  assert layers.middle(list(layers.along_depth(plain, (32, 32, 3)))) == [2, 7, 11]
