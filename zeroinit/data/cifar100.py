"""CIFAR-100 from whatever copy is at hand, with its 100 fine classes."""

from zeroinit.data import Info
from zeroinit.data.reading.cifar import Batches
from zeroinit.data.reading.whole import Whole

INFO = Info(num_classes=100, train_examples=50_000, image_size=32, channels=3,
            mean=(129.3, 124.1, 112.4), std=(68.2, 65.4, 70.4))

load = Whole('cifar100', 'CIFAR-100', INFO, test_examples=10_000, a_class='girl', original=Batches(
    number=100, folders=('cifar-100-python', 'cifar-100-binary'),
    train=('train',), test=('test',), labels=b'fine_labels', labels_before=1)).load
