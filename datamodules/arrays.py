from pathlib import Path
from typing import get_args

from datamodules.array_file import ArrayFile, Layout
from datamodules.array_images import ArrayImages, Fit
from datamodules.base import Split
from datamodules.files import Arrays
from datamodules.image_reader import ImageReader, Resize, ValueRange
from datamodules.user_images import UserImagesDataModule


class ArrayDataModule(UserImagesDataModule):
    """Your own images in an .npz or .npy file, with or without labels.

    The images are one array: N x H x W, N x H x W x C or N x C x H x W, with one (grey) or three (RGB) channels; uint8,
    or floats in [0, 1]. Labels are numbers, strings or one-hot rows. They become 0 .. K-1 in their sorted order, and
    the classes keep their names; an array `classes` of the file gives other names to the labels 0, 1, ...

    An .npz file has `x_train` and, if it has labels and parts, `y_train`, `x_val`, `y_val`, `x_test`, `y_test`; or
    `train_images`, `train_labels` and so on; or `images` and `labels`, or arrays that are named by the options. Parts
    that are not there are held out. Pickled Python objects are refused.

    Args:
        file: The .npz or .npy file.
        images: Name of the array of images in an .npz file. By default the usual names are tried, see above.
        labels: Name of the array of labels in an .npz file, or an .npy file with the labels. By default the usual names
            are tried.
        layout: Order of the axes, `NHW`, `NHWC` or `NCHW`. By default it follows from the shape: the channels are the
            axis of 1 or 3.
        size: Height and width in pixels, or one number for both. By default the images keep their size.
        resize: How an image of another shape gets the size: `crop` covers it and cuts the longer side in the middle,
            `pad` fits into it and fills the rest with the background's colour, `stretch` changes height and width.
        grayscale: Whether images have one channel instead of three. By default as in the file.
        val_size: Share (below 1) or number of the training images that are held out for validation, of each class in
            the same share. Not used if the file has a validation part.
        test_size: Share (below 1) or number of the images that are held out for the test, of each class in the same
            share and in the same way for every seed. Not used if the file has a test part.
        batch_size: Number of training images in a batch, on each device.
        seed: Seed of the validation split, of the few-shot subset and of the order of the images. The run's own seed by
            default.
        labels_per_class: Number of training images per class for few-shot learning, drawn at random. All by default.
        on_device: Whether the data are kept on the training device. By default they are if they take less than half of
            its free memory.
        shift: Largest random shift of a training image along each axis, in pixels. 0 turns the augmentation off.
        flip: Whether training images are mirrored horizontally at random.
        predict_split: Split that `predict` runs over.
        eval_batch_size: Number of images in a batch of validation, test and predict. Four times `batch_size` by
            default.
        background: Colour around padded images, as a name or as `#rrggbb`.
        value_range: Values of black and white, such as `[-1, 1]`. By default 0 and 255 of integers, 0 and 1 of floats.

    Raises:
        ValueError: An option has a value that no file allows.
        DataError: From everything else: the file is missing, damaged, or has images or labels that cannot be used.

    Examples:
        >>> import tempfile
        >>> import numpy as np
        >>> path = Path(tempfile.mkdtemp(), "squares.npz")
        >>> np.savez(path, images=np.zeros((20, 8, 8), np.uint8), labels=np.repeat(["cat", "dog"], 10))
        >>> data = ArrayDataModule(str(path), val_size=4, test_size=0.2)
        >>> data.name, data.image_shape, data.classes, data.examples("train", 20)[0].shape
        ('squares', (1, 8, 8), ('cat', 'dog'), torch.Size([12, 1, 8, 8]))
    """

    def __init__(
        self,
        file: str,
        images: str | None = None,
        labels: str | None = None,
        layout: Layout = "auto",
        size: int | tuple[int, int] | None = None,
        resize: Resize = "crop",
        grayscale: bool | None = None,
        val_size: float = 0.1,
        test_size: float = 0.1,
        batch_size: int = 64,
        seed: int | None = None,
        labels_per_class: int | None = None,
        on_device: bool | None = None,
        shift: int = 0,
        flip: bool = False,
        predict_split: Split = "test",
        eval_batch_size: int | None = None,
        background: str = "white",
        value_range: ValueRange | None = None,
    ) -> None:
        super().__init__(
            *(file, batch_size, val_size, test_size, seed, labels_per_class, on_device, shift, flip),
            *(predict_split, eval_batch_size),
        )
        if layout not in get_args(Layout):
            raise ValueError(f"data.layout is {layout}; it is one of {', '.join(get_args(Layout))}")
        ImageReader(value_range=value_range, resize=resize, background=background)  # checks these options
        fit = Fit.of_options(size, grayscale, resize, background)
        self.name = self.root.stem
        self._images = ArrayImages(ArrayFile(self.root, images, labels, layout), fit, value_range)

    @property
    def image_shape(self) -> tuple[int, int, int]:  # type: ignore[override]
        return self._images.image_shape

    def class_names(self) -> tuple[str, ...]:
        return self._images.classes

    def source_files(self) -> list[Path]:
        labels = self._images.file.label_path
        return [self.root] if labels is None else [self.root, labels]

    def read(self) -> Arrays:
        return self.with_test_part(self._images.read())
