"""Reading data sets from disk: TFRecord files, JPEGs, batches that are decoded while the devices train, a cache."""
