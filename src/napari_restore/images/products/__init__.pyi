from ._find import Named, images_in_folder, is_product, named_product
from ._product import Member, Product

__all__ = ["Member", "Named", "Product", "images_in_folder", "is_product", "named_product"]
