"""ZI, Tables 4 and 5: ResNet-50 on ImageNet, single runs."""

from zeroinit.report.findings.judging import every, margin


def v2_zeroinit_reaches_batch_norm(settings):
  """ZeroInit is at least as accurate as batch norm at batches 256 and 1024, or less than 0.2 points below."""
  return every(margin(settings, ('zeroinit', 'ghost_norm'), lambda zeroinit, norm: zeroinit > norm - 0.2,
                      batch_size=batch) for batch in (256, 1024))


def v2_zeroinit_loses_at_4096(settings):
  """ZeroInit is at least 1 point below batch norm at batch 4096 (ZI: 2.2)."""
  return margin(settings, ('zeroinit', 'ghost_norm'), lambda zeroinit, norm: norm - zeroinit >= 1, batch_size=4096)


def v2_fixup_equals_zeroinit_without_dropout(settings):
  """Fixup and ZeroInit without dropout are within 0.3 points at batches 256 and 1024."""
  return every(margin(settings, ('fixup', 'zeroinit_no_dropout'), lambda fixup, zeroinit: abs(fixup - zeroinit) <= 0.3,
                      batch_size=batch) for batch in (256, 1024))


def v2_fixup_with_dropout_equals_batch_norm(settings):
  """SK: Fixup with dropout is within 0.5 points of batch norm at batch 4096, and at least 1 point above ZeroInit."""
  return margin(settings, ('fixup_dropout', 'ghost_norm', 'zeroinit'),
                lambda fixup, norm, zeroinit: abs(fixup - norm) <= 0.5 and fixup - zeroinit >= 1, batch_size=4096)


def v1_zeroinit_loses(settings):
  """In V1, whose shortcut is not linear, ZeroInit is at least 3 points below batch norm at every batch (ZI: 5 to 7)."""
  return every(margin(settings, ('zeroinit', 'ghost_norm'), lambda zeroinit, norm: norm - zeroinit >= 3,
                      batch_size=batch) for batch in (256, 1024, 4096))


def v1_one_scalar_recovers(settings):
  """One scalar bias per block brings ZeroInit within 1 point of batch norm at batches 256 and 1024 (ZI: 0.3, 0.4)."""
  return every(margin(settings, ('zeroinit_scalar_bias', 'ghost_norm'), lambda scalar, norm: norm - scalar <= 1,
                      batch_size=batch) for batch in (256, 1024))


CLAIMS = {
    'table4': (v2_zeroinit_reaches_batch_norm, v2_zeroinit_loses_at_4096, v2_fixup_equals_zeroinit_without_dropout,
               v2_fixup_with_dropout_equals_batch_norm),
    'table5': (v1_zeroinit_loses, v1_one_scalar_recovers),
}
