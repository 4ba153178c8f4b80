"""Small tables of one made-up shop, under names in many languages."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import polars as pl

KINDS = ("view", "cart", "purchase")


@dataclass(frozen=True)
class Names:
    """What a language calls the columns and event types: item, title, description, category, price; user, ... ."""

    item: str
    title: str
    description: str
    category: str
    price: str
    user: str
    log_item: str
    time: str
    event: str
    kinds: tuple[str, str, str]


LANGUAGES = {
    "english": Names(
        "sku",
        "title",
        "description",
        "category",
        "price",
        "customer_id",
        "product_id",
        "timestamp",
        "event_type",
        ("view", "cart", "purchase"),
    ),
    "german": Names(
        "Artikelnummer",
        "Bezeichnung",
        "Beschreibung",
        "Warengruppe",
        "Preis",
        "Kundennummer",
        "Artikel_Nr",
        "Zeitpunkt",
        "Ereignis",
        ("Ansicht", "Warenkorb", "Kauf"),
    ),
    "french": Names(
        "id_produit",
        "libellé",
        "descriptif",
        "catégorie",
        "prix",
        "id_client",
        "produit",
        "horodatage",
        "action",
        ("clic", "panier", "achat"),
    ),
    "spanish": Names(
        "codigo_producto",
        "nombre",
        "descripción",
        "categoría",
        "precio",
        "id_usuario",
        "producto",
        "fecha",
        "evento",
        ("vista", "carrito", "compra"),
    ),
    "portuguese": Names(
        "código_produto",
        "título",
        "descrição",
        "categoria",
        "preço",
        "id_cliente",
        "produto",
        "data",
        "ação",
        ("visualização", "carrinho", "compra"),
    ),
    "italian": Names(
        "codice_articolo",
        "nome",
        "descrizione",
        "categoria",
        "prezzo",
        "id_utente",
        "articolo",
        "data_ora",
        "azione",
        ("visita", "carrello", "acquisto"),
    ),
    "dutch": Names(
        "artikelnummer",
        "naam",
        "omschrijving",
        "categorie",
        "prijs",
        "klantnummer",
        "artikel",
        "tijdstip",
        "gebeurtenis",
        ("klik", "winkelwagen", "aankoop"),
    ),
    "chinese": Names(
        "商品编号", "商品名称", "商品描述", "类目", "价格", "用户ID", "商品ID", "时间", "行为", ("点击", "加购", "购买")
    ),
    "russian": Names(
        "код_товара",
        "название",
        "описание",
        "категория",
        "цена",
        "код_клиента",
        "товар",
        "дата",
        "событие",
        ("просмотр", "корзина", "покупка"),
    ),
    "japanese": Names(
        "商品コード",
        "商品名",
        "商品説明",
        "カテゴリ",
        "価格",
        "会員ID",
        "商品ID",
        "日時",
        "イベント",
        ("閲覧", "カート", "購入"),
    ),
}
_NOUNS = ("lamp", "mug", "scarf", "kettle", "clock", "basket", "candle", "teapot", "cushion", "frame")
_ADJECTIVES = ("red", "small", "woven", "old", "blue", "round", "glass", "wooden", "tall", "green")


def tables(names: Names, *, users: int = 30, items: int = 60, days: int = 40, rows: int = 1500, seed: int = 0):
    """Catalogue and log; ids of items are text, those of users numbers, times naive."""
    rng = np.random.default_rng(seed)
    item_ids = [f"P{1000 + index}" for index in range(items)]
    titles = [f"{_ADJECTIVES[i % 10]} {_NOUNS[i // 10 % 10]} number {i}" for i in range(items)]
    catalogue = pl.DataFrame(
        {
            names.item: item_ids,
            names.title: titles,
            names.description: [f"This {title} is made with care for every home and table" for title in titles],
            names.category: [f"{_NOUNS[i % 5]}s" for i in range(items)],
            names.price: [5.0 + i / 4 for i in range(items)],
        }
    )
    start = datetime(2024, 3, 1, tzinfo=UTC).replace(tzinfo=None)
    seconds = np.sort(rng.integers(0, days * 86_400, rows))
    log = pl.DataFrame(
        {
            names.user: rng.integers(500, 500 + users, rows),
            names.log_item: [item_ids[index] for index in rng.integers(0, items, rows)],
            names.event: [names.kinds[index] for index in rng.choice(3, rows, p=[0.7, 0.2, 0.1])],
            names.time: [start + timedelta(seconds=int(second)) for second in seconds],
        }
    )
    return catalogue, log


def write(folder: Path, **frames: pl.DataFrame) -> Path:
    """Tables as CSV files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, frame in frames.items():
        frame.write_csv(folder / f"{name}.csv", datetime_format="%Y-%m-%d %H:%M:%S")
    return folder
