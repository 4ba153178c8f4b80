"""What columns and event types are called, in ten languages and more.

Latin words stand without accents, Cyrillic ones as stems. A name fits a word the better the more of it the word is.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache
from itertools import pairwise

__all__ = ["EVENT_LEVELS", "WORDS", "affinity", "event_level"]

WORDS: dict[str, tuple[str, ...]] = {
    "user": tuple(
        (
            "user customer client visitor member account household person reader player viewer subscriber "
            "buyer shopper "
            "reviewer uid guest profile learner student listener patron borrower cardholder reviewerid "
            "kunde kunden nutzer benutzer besucher mitglied leser kaufer haushalt teilnehmer konto "
            "utilisateur acheteur abonne membre lecteur visiteur internaute adherent compte foyer "
            "usuario cliente comprador miembro lector visitante socio suscriptor cuenta abonado "
            "utente acquirente membro lettore visitatore iscritto abbonato "
            "utilizador leitor assinante conta consumidor "
            "gebruiker klant koper lezer bezoeker abonnee lid leerling "
            "用户 用戶 客户 客戶 会员 會員 顾客 买家 读者 使用者 帐号 账号 ユーザ 会員 顧客 利用者 客様 読者 購入者 "
            "пользовател клиент покупател посетител читател участник юзер подписчик гост"
        ).split()
    ),
    "item": tuple(
        (
            "item product article sku stockcode asin isbn ean gtin upc movie film game book song track news "
            "doc document "
            "paper page video recipe job course hotel poi venue business listing beer wine goods material dish "
            "app show "
            "episode podcast restaurant vacancy post story artwork exhibit anime offer object content title "
            "entity iid pid "
            "produkt artikel ware spiel buch lied nachricht rezept kurs titel beitrag material gericht "
            "produit livre jeu chanson recette cours ouvrage plat "
            "producto articulo pelicula libro juego cancion receta curso noticia obra plato "
            "prodotto articolo gioco canzone ricetta corso notizia brano piatto "
            "produto artigo filme livro jogo musica receita noticia "
            "boek spel liedje recept cursus nieuws gerecht "
            "商品 产品 產品 物品 宝贝 条目 新闻 文章 电影 图书 书籍 歌曲 视频 "
            "课程 货品 アイテム 製品 品目 映画 書籍 本 記事 曲 動画 作品 レシピ "
            "товар продукт артикул издели фильм книг игр песн трек новост стат рецепт курс видео документ"
        ).split()
    ),
    "id": tuple(
        (
            "id nr nummer number no num numero code codigo codice key kennung identifiant identificador "
            "identificativo "
            "ident token uuid guid 编号 編號 号 番号 コード 代码 номер код ид идентификатор"
        ).split()
    ),
    "time": tuple(
        (
            "time timestamp ts date datetime when at created occurred day epoch clock "
            "datum zeit zeitpunkt zeitstempel uhrzeit tag wann "
            "heure horodatage jour instant quand "
            "fecha hora momento cuando data ora orario quando giorno datahora dia "
            "tijd tijdstip tijdstempel dag wanneer "
            "时间 時間 日期 时刻 时间戳 日時 日付 時刻 タイムスタンプ 年月日 "
            "врем дат момент когда день"
        ).split()
    ),
    "event": tuple(
        (
            "event type action behavior behaviour activity interaction verb kind operation eventtype eventname "
            "ereignis aktion typ art verhalten vorgang aktivitat interaktion "
            "evenement comportement activite geste evento accion tipo actividad comportamiento interaccion "
            "azione attivita comportamento interazione acao atividade interacao "
            "gebeurtenis actie soort handeling activiteit gedrag "
            "行为 行為 事件 类型 動作 动作 操作 イベント 行動 種別 アクション 種類 操作 "
            "событи действи тип вид активност"
        ).split()
    ),
    "rating": tuple(
        (
            "rating score stars overall grade bewertung sterne note punkte notation evaluation etoiles "
            "puntuacion calificacion valoracion estrellas avaliacao nota estrelas valutazione voto stelle punteggio "
            "beoordeling cijfer sterren waardering 评分 打分 星级 評分 評価 点数 スコア оценк рейтинг балл"
        ).split()
    ),
    "money": tuple(
        (
            "amount total revenue sales value paid spend turnover subtotal linetotal "
            "umsatz betrag wert summe gesamtpreis erlos montant valeur importe valor monto ingresos importo valore "
            "incasso bedrag waarde omzet receita 金额 金額 总价 总额 合計 売上 сумм выручк"
        ).split()
    ),
    "price": tuple(
        (
            "price unitprice cost preis stuckpreis einzelpreis kosten prix tarif cout precio coste preco "
            "prezzo costo "
            "prijs stuksprijs kosten 价格 价钱 单价 售价 價格 価格 単価 値段 цен стоимост"
        ).split()
    ),
    "quantity": tuple(
        (
            "quantity qty units menge anzahl stuckzahl stuck quantite nombre cantidad unidades quantidade qtd "
            "quantita "
            "pezzi aantal hoeveelheid stuks 数量 个数 件数 個数 количеств кол штук"
        ).split()
    ),
    "request": tuple(
        (
            "request impression slate srch searchid listid requestid pageview anfrage requete solicitud peticion "
            "requisicao richiesta verzoek 请求 曝光 展示 リクエスト 表示 запрос показ"
        ).split()
    ),
    "order": tuple(
        (
            "invoice order basket receipt transaction cart session store shop branch bon campaign coupon voucher "
            "rechnung bestellung beleg auftrag warenkorb filiale laden facture commande panier ticket magasin "
            "factura pedido cesta tienda fattura ordine carrello negozio fatura encomenda carrinho loja "
            "bestelling factuur winkelwagen winkel 订单 訂單 发票 购物车 "
            "店铺 会话 注文 伝票 店舗 заказ чек корзин накладн "
            "магазин сесси счет"
        ).split()
    ),
    "position": tuple(
        (
            "position rank slot pos rang platz posicion posizione "
            "posicao positie plaats 位置 排名 位次 順位 表示位置 "
            "позици ранг"
        ).split()
    ),
    "query": tuple(
        (
            "query search searchterm keyword keywords suchbegriff suchanfrage suche suchwort recherche motcle "
            "busqueda "
            "consulta busca pesquisa ricerca zoekterm zoekopdracht 查询 搜索 搜索词 关键词 検索 検索語 поиск запрос"
        ).split()
    ),
    "comment": tuple(
        (
            "comment review text reviewtext message note feedback tag kommentar rezension bewertungstext "
            "commentaire avis "
            "comentario resena opinion commento recensione opmerking recensie "
            "评论 评价内容 留言 标签 コメント レビュー 感想 "
            "комментари отзыв тег"
        ).split()
    ),
    "title": tuple(
        (
            "title name headline label caption titel bezeichnung produktname artikelname "
            "titre nom libelle intitule designation titulo nombre denominacion nome titolo denominazione naam "
            "productnaam "
            "标题 標題 名称 名稱 名字 品名 题目 书名 片名 タイトル 名前 商品名 名 назван наименован заголов имя"
        ).split()
    ),
    "description": tuple(
        (
            "description desc abstract summary body content contents details overview plot synopsis features "
            "about lede "
            "blurb excerpt text longtext beschreibung inhalt zusammenfassung kurztext langtext descriptif "
            "resume contenu "
            "descripcion resumen contenido detalle descricao resumo conteudo descrizione riassunto contenuto trama "
            "beschrijving omschrijving inhoud samenvatting 描述 简介 簡介 "
            "内容 详情 摘要 介绍 説明 概要 あらすじ 紹介 "
            "описан содержан аннотац текст"
        ).split()
    ),
    "creator": tuple(
        (
            "brand author authors artist director manufacturer vendor seller publisher writer studio label "
            "marke hersteller autor autorin verlag kunstler regisseur marque fabricant auteur editeur artiste "
            "realisateur "
            "marca fabricante autor editorial artista director autore casa editore regista produttore editora "
            "merk fabrikant auteur uitgever 品牌 作者 厂商 导演 "
            "歌手 出版社 ブランド メーカー 著者 作家 監督 アーティスト "
            "бренд автор производител марк издательств режиссер исполнител"
        ).split()
    ),
    "category": tuple(
        (
            "category categories genre genres department section topic topics class subcategory subject "
            "subjects cuisine "
            "productgroup producttype tags kategorie kategorien warengruppe rubrik gattung abteilung sparte "
            "thema produktgruppe "
            "categorie rayon rubrique categoria genero seccion departamento tema genere reparto sezione "
            "argomento secao "
            "categorias afdeling rubriek onderwerp productgroep 类目 类别 類別 "
            "分类 分類 品类 类型 版块 カテゴリ ジャンル 種別 "
            "категори раздел жанр рубрик отдел тем"
        ).split()
    ),
    "available_from": tuple(
        (
            "availablefrom validfrom onsalefrom launchdate launchedat launchat saleStart verfugbarab gultigab "
            "disponibledepuis disponibledesde disponiveldesde disponibiledal "
            "beschikbaarvanaf 上架时间 上架日期 販売開始日"
        )
        .lower()
        .split()
    ),
    "available_until": tuple(
        (
            "availableuntil availableto validuntil validto onsaleuntil discontinuedat verfugbarbis gultigbis "
            "disponiblejusqua disponiblehasta disponivelate disponibilefino "
            "beschikbaartot 下架时间 下架日期 販売終了日"
        ).split()
    ),
    "otherwise": tuple(  # times that are no event's, texts that are no item's
        (
            "birth birthday updated modified expires expiry signup registered joined lastlogin delivery "
            "shipped due end "
            "geburt geandert registriert lieferdatum naissance livraison nacimiento entrega nascita consegna "
            "geboorte "
            "levering 出生 生日 更新 注册 誕生 登録 рожден регистрац доставк export extracted loaded ingested"
        ).split()
    ),
}
"""For each part that a column may play, what it is called."""

EVENT_LEVELS: dict[str, tuple[str, ...]] = {
    "returned": tuple(
        (
            "return returned refund refunded cancel canceled cancelled cancellation chargeback storno retoure "
            "ruckgabe "
            "retour remboursement devolucion reembolso reso rimborso "
            "devolucao retourzending 退货 退款 取消 返品 返金 "
            "キャンセル возврат отмен"
        ).split()
    ),
    "against": tuple(
        (
            "dislike downvote hide removefromcart remove skip unlike unfollow block report unsubscribe dismiss "
            "entfernen retirer supprimer quitar eliminar rimuovere remover verwijderen 不喜欢 删除 移除 移出 削除 "
            "удален удалил дизлайк"
        ).split()
    ),
    "shown": tuple(
        (
            "impression impressions shown show exposure exposed display displayed seen served recommended "
            "angezeigt anzeige einblendung affichage affiche vu impresion mostrado impressione visualizzato mostrato "
            "impressao exibido weergave getoond vertoning 曝光 展示 展现 表示 露出 インプレッション показ"
        ).split()
    ),
    "bought": tuple(
        (
            "purchase purchased buy bought order ordered transaction checkout sale sold booking booked rent "
            "rented borrow "
            "borrowed loan kauf kaufen gekauft bestellung bestellt buchung ausleihe verkauf achat acheter "
            "achete commande "
            "vente emprunt compra comprar comprado pedido venta acquisto acquistato ordine vendita comprou venda "
            "aankoop koop gekocht bestelling verkoop 购买 購買 下单 成交 "
            "支付 付款 购 購入 注文 予約 покупк купил купи "
            "заказ оплат продаж"
        ).split()
    ),
    "consumed": tuple(
        (
            "play played watch watched listen listened read finish finished complete completed download "
            "downloaded stream "
            "streamed install installed enroll apply applied rate rated rating gespielt gehort gelesen gesehen "
            "abgespielt "
            "heruntergeladen joue ecoute lu regarde telecharge jugado escuchado leido visto descargado giocato "
            "ascoltato "
            "letto guardato scaricato jogado ouvido lido assistido baixado gespeeld geluisterd gelezen bekeken "
            "播放 观看 阅读 收听 下载 安装 再生 視聴 読了 ダウンロード прослушал прочита просмотрел сыгра скача"
        ).split()
    ),
    "cart": tuple(
        (
            "cart addtocart basket addtobasket bag warenkorb panier carrito cesta carrello carrinho winkelwagen "
            "winkelmandje 加购 购物车 加入购物车 カート かご корзин"
        ).split()
    ),
    "wished": tuple(
        (
            "wishlist wish fav favorite favourite like liked save saved bookmark star follow upvote love queue "
            "wunschliste merkliste merkzettel favorit gemerkt gefallt souhait envie favori aime deseo favorito "
            "guardado "
            "megusta preferito desideri salvato desejo favoritos salvo curtir verlanglijst favoriet bewaard "
            "收藏 喜欢 点赞 关注 心愿 お気に入り いいね 保存 избранн желан лайк"
        ).split()
    ),
    "clicked": tuple(
        (
            "click clicked view viewed pageview pv visit open opened detail detailview tap browse "
            "klick geklickt aufruf angesehen ansicht besuch clic clique consultation visite vue consulta "
            "visita vista abrir "
            "cliccato apertura visualizzazione clicou visualizacao abertura klik geklikt weergegeven bezoek geopend "
            "点击 點擊 浏览 瀏覽 查看 访问 閲覧 クリック 詳細 клик просмотр открыт посещен"
        ).split()
    ),
}
"""What event types are called, by what they say; where a name fits two, the first."""

_MAPPED = {"ß": "ss", "ø": "o", "ł": "l", "đ": "d"}
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
_ACCENTED = re.compile(r"([a-z])[\u0300-\u036f]+")  # marks of other scripts make other letters
_LATIN = re.compile(r"^[a-z0-9]+$")
_CYRILLIC = re.compile(r"^[\u0400-\u04ff]+$")
_LEAST_INSIDE = 8  # letters of a word that may stand anywhere in a name
_LEAST_AFFIX = 4  # letters of a word that may begin or end a name without a mark between
_UMLAUTS = (("ae", "a"), ("oe", "o"), ("ue", "u"))


def affinity(name: str, part: str) -> float:
    """How well a column's name fits a part, from 0 to 1.

    >>> affinity("CustomerID", "user"), affinity("shade", "user")
    (0.9, 0.0)
    """
    return _fits(name, WORDS[part], _LEAST_AFFIX)


def event_level(name: str) -> str | None:
    """What an event type says, of `EVENT_LEVELS`; None where nobody can tell.

    >>> event_level("add_to_cart"), event_level("blurp")
    ('cart', None)
    """
    scores = {level: _fits(name, words, _LEAST_AFFIX + 1) for level, words in EVENT_LEVELS.items()}
    best = max(scores, key=lambda level: scores[level])
    return best if scores[best] > 0 else None


@cache
def _fits(name: str, words: tuple[str, ...], affix: int) -> float:
    return max((_fit(tokens, word, affix) for tokens in _spellings(name) for word in words), default=0.0)


def _fit(tokens: tuple[str, ...], word: str, affix: int) -> float:
    """How well the words of a name fit a word; `affix` is how long it must be to begin or end one of them."""
    if "".join(tokens) == word:
        return 1.0
    if word in tokens:
        return 0.9
    if _CYRILLIC.match(word):
        return 0.85 if any(token.startswith(word) for token in tokens) else 0.0
    if not _LATIN.match(word):
        return 0.8 if word in "".join(tokens) else 0.0
    return _latin_fit(tokens, word) if len(word) >= affix else 0.0


def _latin_fit(tokens: tuple[str, ...], word: str) -> float:
    if any(token.removesuffix("s") == word for token in tokens):
        return 0.85
    if any(left + right == word for left, right in pairwise(tokens)):
        return 0.8
    if any(token.startswith(word) or token.endswith(word) for token in tokens):
        return 0.7
    within = len(tokens) > 1 and len(word) >= _LEAST_INSIDE and word in "".join(tokens)
    return 0.8 if within else 0.0


@cache
def _spellings(name: str) -> tuple[tuple[str, ...], ...]:
    """The words of a name, without accents; and the same with `ue` read as an umlaut."""
    plain = _tokens(_CAMEL.sub(" ", name))
    whole = _tokens(name)
    ways = [plain, whole]
    ways += [tuple(_without_umlauts(token) for token in way) for way in (plain, whole)]
    return tuple(dict.fromkeys(ways))


def _without_umlauts(token: str) -> str:
    for pair, letter in _UMLAUTS:
        token = token.replace(pair, letter)
    return token


def _tokens(name: str) -> tuple[str, ...]:
    lowered = "".join(_MAPPED.get(letter, letter) for letter in name.lower())
    bare = _ACCENTED.sub(r"\1", unicodedata.normalize("NFKD", lowered))
    return tuple(_parts(unicodedata.normalize("NFC", bare)))


def _parts(name: str) -> Iterable[str]:
    return (part for part in re.split(r"[\W_]+", name) if part)
