from ._find import NamedProduct, images_in_folder, is_product, named_product
from ._product import Product, ProductFile

__all__ = [
    "NamedProduct",
    "Product",
    "ProductFile",
    "images_in_folder",
    "is_product",
    "named_product",
]
