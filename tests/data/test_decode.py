import numpy as np
import pytest
import torch
from PIL import Image

from kilotune.data.decode import decode_all, decode_square, decode_tiles
from kilotune.errors import DataError


def noise(h, w, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (h, w, 3), dtype=np.uint8)


@pytest.mark.parametrize(("h", "w"), [(40, 60), (60, 40), (48, 48)])
def test_square_is_short_side_resize_and_centre_crop(tmp_path, h, w):
    pixels = noise(h, w)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    short = min(h, w)
    out_h, out_w = 16 * h // short, 16 * w // short
    top, left = (out_h - 16) // 2, (out_w - 16) // 2
    resized = Image.fromarray(pixels).resize((out_w, out_h), Image.Resampling.BILINEAR)
    expected = np.asarray(resized.crop((left, top, left + 16, top + 16))).transpose(2, 0, 1)
    assert np.array_equal(decode_square(tmp_path / "a.png", 16), expected)


def test_square_of_a_large_jpeg_is_close_to_full_decoding(tmp_path):
    smooth = Image.fromarray(noise(12, 12)).resize((600, 600), Image.Resampling.BICUBIC)
    smooth.save(tmp_path / "a.jpg", quality=95)
    whole = np.asarray(Image.open(tmp_path / "a.jpg").resize((32, 32), Image.Resampling.BILINEAR)).transpose(2, 0, 1)
    # The JPEG decoder's own reduction is a box filter in the frequency domain: a few grey levels apart, not more.
    assert np.abs(decode_square(tmp_path / "a.jpg", 32).astype(int) - whole).max() <= 4


def test_exif_orientation_is_obeyed(tmp_path):
    upright = noise(8, 8)
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    Image.fromarray(upright[::-1, ::-1].copy()).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(decode_square(tmp_path / "a.png", 8), upright.transpose(2, 0, 1))


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK"])
def test_other_modes_become_rgb(tmp_path, mode):
    image = Image.new("RGB", (9, 9), "white").convert(mode)
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    image.save(path)
    assert (decode_square(path, 9) == 255).all()


def test_transparent_palette_is_read_without_warning(tmp_path):
    image = Image.new("P", (9, 9), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    assert decode_square(tmp_path / "a.png", 9)[:, 4, 4].tolist() == [10, 20, 30]


def test_sixteen_bit_is_refused_by_name(tmp_path):
    Image.fromarray(np.full((9, 9), 40000, np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(DataError, match=r"deep\.png.*mode I;16.*8-bit RGB"):
        decode_square(tmp_path / "deep.png", 9)


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"hello"])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp"])
def test_damaged_image_is_named(tmp_path, damage, suffix):
    path = tmp_path / f"broken.{suffix}"
    Image.fromarray(noise(64, 64)).save(path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataError, match=rf"broken\.{suffix}"):
        decode_square(path, 16)


def test_tiles_are_cut_row_by_row(tmp_path):
    tiles = np.stack([noise(4, 4, seed) for seed in range(6)])
    mosaic = np.concatenate([np.concatenate(tiles[row * 3 : row * 3 + 3], axis=1) for row in range(2)], axis=0)
    Image.fromarray(mosaic).save(tmp_path / "m.png")
    assert np.array_equal(decode_tiles(tmp_path / "m.png", 4), tiles.transpose(0, 3, 1, 2))
    with pytest.raises(DataError, match="12x8, not a mosaic of 5x5"):
        decode_tiles(tmp_path / "m.png", 5)


def test_decode_all_keeps_the_order_and_reports_progress():
    seen = []
    out = torch.zeros(20, 2, dtype=torch.uint8)
    decode_all(range(20), lambda i: np.array([i, 2 * i], np.uint8), out, lambda done, total: seen.append((done, total)))
    assert out.tolist() == [[i, 2 * i] for i in range(20)]
    assert seen == [(i + 1, 20) for i in range(20)]
