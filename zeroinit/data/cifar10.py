"""CIFAR-10 from whatever copy is at hand."""

from zeroinit.data import Info
from zeroinit.data.reading.cifar import Batches
from zeroinit.data.reading.whole import Whole

INFO = Info(num_classes=10, train_examples=50_000, image_size=32, channels=3,
            mean=(125.3, 123.0, 113.9), std=(63.0, 62.1, 66.7))

load = Whole('cifar10', 'CIFAR-10', INFO, test_examples=10_000, a_class='frog', original=Batches(
    number=10, folders=('cifar-10-batches-py', 'cifar-10-batches-bin'),
    train=tuple(f'data_batch_{i}' for i in range(1, 6)), test=('test_batch',), labels=b'labels')).load
