# ruff: noqa: RUF001 - letters of other scripts are meant
"""The words of the simulated shop: what its items and searches are called, in five languages.

A *theme* is the smallest shelf of the shop and lies in one category. Its English titles are put
together from a noun, a kind (material or variety), a size, a purpose and the words of a style; the other
languages use a noun and the phrase of a style. A noun belongs to one theme only, so that a search for it has
one right shelf.
"""

from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "EMOJI",
    "LANGUAGES",
    "N_DRAWS",
    "STYLES",
    "THEMES",
    "Style",
    "Theme",
    "search_phrases",
    "write_text",
]

LANGUAGES = ("en", "de", "ru", "zh", "ar")


class Theme(NamedTuple):
    """One shelf: the words of its items, its prices, and how soon its goods are used up."""

    category: str
    name: str
    typical_price: float
    refill_days: int  # 0: bought once
    nouns: tuple[tuple[str, ...], ...]  # one entry a language
    kinds: tuple[str, ...]
    sizes: tuple[str, ...]
    purposes: tuple[str, ...]


class Style(NamedTuple):
    """One taste that cuts across the shelves, such as retro or compact."""

    name: str
    words: tuple[tuple[str, ...], ...]  # one entry a language


def _split(words: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in words.split("|"))


def _theme(block: str) -> Theme:
    head, nouns, made, purposes, others = block.splitlines()
    category, name, price, refill_days = _split(head)
    kinds, sizes = made.split(" / ")
    return Theme(
        category=category,
        name=name,
        typical_price=float(price),
        refill_days=int(refill_days),
        nouns=tuple(_split(words) for words in (nouns, *others.split(" / "))),
        kinds=_split(kinds),
        sizes=_split(sizes),
        purposes=_split(purposes),
    )


def _style(line: str) -> Style:
    name, listed = line.split(": ", 1)
    return Style(name, tuple(_split(words) for words in listed.split(" / ")))


# The lines of a block: category | theme | typical price | days until used up (0: bought once); English nouns;
# kinds / sizes; purposes; nouns in the other languages, in the order of `LANGUAGES`.
_THEMES = """\
Garden | garden hand tools | 22 | 0
pruning shears | garden trowel | hedge clippers | weeding fork | leaf rake | digging spade
carbon steel | stainless steel | ash wood | aluminium / 20 cm | 35 cm | 90 cm
roses and shrubs | heavy soil | small gardens
Gartenschere | Handspaten / Садовый секатор | Садовая лопата / 园艺剪刀 | 小铁铲 / مقص تقليم | مجرفة حديقة

Garden | garden watering | 30 | 0
garden hose | watering can | lawn sprinkler | drip irrigation kit | rain barrel | hose reel
rubber | galvanised metal | recycled plastic | brass / 5 L | 10 L | 25 m
lawns and flower beds | greenhouses | balconies in summer
Gartenschlauch | Gießkanne / Садовый шланг | Лейка для полива / 花园水管 | 浇水壶 / خرطوم حديقة | إبريق سقي

Garden | seeds and plant food | 7 | 30
tomato seeds | wildflower seed mix | potting soil | lawn fertiliser | herb seeds | compost
organic | untreated | all-purpose | regional / 50 g | 1 kg | 20 L
raised beds | spring sowing | window boxes
Tomatensamen | Blumenerde / Семена томатов | Грунт для рассады / 番茄种子 | 营养土 / بذور طماطم | تربة زراعية

Garden | flower pots and planters | 26 | 0
flower pot | hanging planter | balcony planter box | plant stand | succulent bowl | orchid pot
terracotta | glazed ceramic | cedar wood | concrete / 12 cm | 24 cm | 60 cm
house plants | terraces | window sills
Blumentopf | Pflanzkasten / Цветочный горшок | Кашпо / 花盆 | 吊篮花盆 / أصيص زهور | حوض نباتات

Coffee and tea | coffee brewing | 48 | 0
pour-over coffee kettle | French press | espresso machine | coffee grinder | moka pot | coffee dripper
stainless steel | borosilicate glass | matte black | copper / 0.6 L | 1 L | 1.2 L
slow mornings | the office kitchen | filter coffee lovers
Kaffeemühle | Espressokocher / Кофемолка | Гейзерная кофеварка / 咖啡磨豆机 | 手冲咖啡壶 / مطحنة قهوة | إبريق قهوة

Coffee and tea | coffee for the cupboard | 14 | 21
coffee beans | espresso roast | filter coffee | decaf coffee | single-origin coffee | coffee capsules
Ethiopian Arabica | dark | Colombian | fair-trade / 250 g | 500 g | 1 kg
espresso and cappuccino | cold brew | everyday drinking
Kaffeebohnen | Filterkaffee / Кофе в зёрнах | Молотый кофе / 咖啡豆 | 咖啡粉 / حبوب قهوة | قهوة مطحونة

Coffee and tea | loose leaf tea | 10 | 30
green tea | Earl Grey tea | herbal tea blend | oolong tea | chai tea | peppermint tea
loose leaf | hand-picked | Himalayan | caffeine-free / 100 g | 250 g | 40 bags
quiet evenings | afternoon breaks | iced tea
Grüner Tee | Kräutertee / Зелёный чай | Травяной чай / 绿茶 | 乌龙茶 / شاي أخضر | شاي أعشاب

Coffee and tea | mugs and teapots | 19 | 0
coffee mug | teapot | espresso cups | thermos mug | tea infuser | latte glasses
porcelain | stoneware | double-wall | hand-glazed / 250 ml | 400 ml | set of 4
hot drinks | the breakfast table | tea ceremonies
Kaffeetasse | Teekanne / Кружка | Заварочный чайник / 咖啡杯 | 茶壶 / كوب قهوة | إبريق شاي

Baby | baby clothes | 17 | 0
baby bodysuit | romper suit | baby socks | knitted baby hat | toddler pyjamas | baby cardigan
organic cotton | merino wool | bamboo | fleece / 0-3 months | 6-12 months | 2 years
newborns | cold days | sensitive skin
Babybody | Strampler / Боди для малыша | Детская шапочка / 婴儿连体衣 | 婴儿帽 / ملابس أطفال | قبعة رضيع

Baby | nappies and wipes | 21 | 14
disposable nappies | baby wipes | overnight diapers | nappy cream | training pants | changing pads
fragrance-free | ultra-soft | hypoallergenic | plant-based / 44 pieces | 80 pieces | 200 pieces
dry nights | active crawlers | delicate skin
Babywindeln | Feuchttücher / Подгузники | Влажные салфетки / 纸尿裤 | 婴儿湿巾 / حفاضات | مناديل مبللة

Baby | nursery furniture | 120 | 0
baby cot | changing table | nursing chair | crib mattress | baby night light | cot mobile
beech wood | white | pine | convertible / 60 x 120 cm | 70 x 140 cm | foldable
the first nursery | small bedrooms | calm nights
Babybett | Wickeltisch / Детская кроватка | Пеленальный столик / 婴儿床 | 尿布台 / سرير أطفال | طاولة تغيير

Baby | strollers and carriers | 180 | 0
baby stroller | baby carrier | infant car seat | jogging pram | baby sling | stroller rain cover
lightweight | breathable mesh | ergonomic | all-terrain / up to 9 kg | up to 15 kg | up to 22 kg
city walks | long journeys | hands-free parents
Kinderwagen | Babytrage / Детская коляска | Слинг / 婴儿推车 | 婴儿背带 / عربة أطفال | حاملة رضيع

Board games and puzzles | strategy board games | 42 | 0
strategy board game | chess set | worker placement game | empire game | deck-building game | wargame
wooden | cardboard | magnetic | illustrated / 2 players | 2-4 players | 1-5 players
long game nights | tactical thinkers | rainy weekends
Strategiespiel | Schachspiel / Настольная стратегия | Шахматы / 策略桌游 | 国际象棋 / لعبة استراتيجية | شطرنج

Board games and puzzles | family party games | 24 | 0
party card game | trivia quiz game | charades game | memory game | drawing and guessing game | dominoes
pocket | family edition | cooperative | bilingual / 3-8 players | 4-10 players | ages 6+
birthday parties | holiday evenings | grandparents and children
Kartenspiel | Partyspiel / Карточная игра | Игра для вечеринки / 派对纸牌游戏 | 家庭桌游 / لعبة ورق | لعبة عائلية

Board games and puzzles | jigsaw puzzles | 18 | 0
jigsaw puzzle | landscape puzzle | wooden puzzle | 3D puzzle | puzzle mat | brain teaser
alpine lake | world map | night sky | famous painting / 500 pieces | 1000 pieces | 2000 pieces
patient hands | winter evenings | framing on the wall
Puzzle | Holzpuzzle / Пазл | Деревянная головоломка / 拼图 | 木制拼图 / أحجية صور | أحجية خشبية

Board games and puzzles | role-playing and dice | 28 | 0
dice set | fantasy miniature | role-playing rulebook | game master screen | dice tower | battle map
limited-edition | dragon-themed | metal | hand-painted / 7 dice | A4 | 28 mm
dungeon crawls | story tellers | campaign evenings
Würfelset | Rollenspielbuch / Набор кубиков | Фэнтези миниатюра / 骰子套装 | 角色扮演手册 / مجموعة نرد | كتاب لعب أدوار

Running and fitness | running gear | 75 | 0
running shoes | running shorts | trail running vest | running jacket | running belt | compression socks
breathable mesh | waterproof | reflective | seamless / size S | size M | size L
marathon training | dark mornings | muddy trails
Laufschuhe | Laufjacke / Беговые кроссовки | Беговая куртка / 跑步鞋 | 跑步短裤 / حذاء جري | سترة جري

Running and fitness | yoga | 32 | 0
yoga mat | yoga block | meditation cushion | yoga strap | pilates ring | yoga leggings
natural rubber | cork | cotton | non-slip / 4 mm | 6 mm | 183 cm
morning stretches | hot yoga | breathing exercises
Yogamatte | Meditationskissen / Коврик для йоги | Подушка для медитации / 瑜伽垫 | 冥想坐垫 / سجادة يوغا | وسادة تأمل

Running and fitness | strength training | 60 | 0
kettlebell | adjustable dumbbells | pull-up bar | resistance bands | weight bench | barbell set
cast iron | neoprene-coated | rubber | steel / 8 kg | 16 kg | 24 kg
home gyms | muscle building | full-body workouts
Kurzhantel | Klimmzugstange / Гантели | Турник / 哑铃 | 引体向上杆 / دمبل | عقلة رياضية

Running and fitness | sports nutrition | 27 | 25
whey protein powder | energy bars | electrolyte tablets | recovery shake | energy gels | creatine
vanilla | chocolate | lemon | vegan / 12 pieces | 500 g | 1 kg
endurance athletes | after the workout | long rides
Proteinpulver | Energieriegel / Протеин | Энергетический батончик / 蛋白粉 | 能量棒 / مسحوق بروتين | ألواح طاقة

Pets | dog walking | 24 | 0
dog leash | dog harness | dog collar | dog raincoat | retractable lead | dog car seat cover
leather | nylon | reflective | padded / small breeds | medium breeds | large breeds
strong pullers | puppies | night walks
Hundeleine | Hundegeschirr / Поводок для собаки | Ошейник / 狗牵引绳 | 狗项圈 / مقود كلب | طوق كلب

Pets | dog food | 29 | 20
dry dog food | canned dog food | dog treats | puppy kibble | dental chews | raw dog food
salmon | grain-free chicken | lamb and rice | beef / 800 g | 3 kg | 12 kg
adult dogs | sensitive stomachs | training rewards
Hundefutter | Hundeleckerli / Корм для собак | Лакомство для собак / 狗粮 | 狗零食 / طعام كلاب | مكافآت كلاب

Pets | cat litter and food | 18 | 16
cat litter | wet cat food | kitten food | cat snacks | catnip | litter deodoriser
natural | grain-free | extra-fresh | plant-based / 400 g | 5 kg | 10 L
indoor cats | fussy eaters | odour control
Katzenstreu | Katzenfutter / Наполнитель для кошек | Корм для кошек / 猫砂 | 猫粮 / رمل قطط | طعام قطط

Pets | aquarium | 45 | 0
glass aquarium | aquarium filter | fish tank heater | aquarium plants | aquarium gravel | air pump
freshwater | low-maintenance | nano | tropical / 20 L | 54 L | 120 L
tropical fish | shrimp tanks | planted tanks
Aquarium | Aquariumfilter / Аквариум | Фильтр для аквариума / 水族箱 | 鱼缸过滤器 / حوض أسماك | فلتر حوض

Kitchen | baking | 20 | 0
cake tin | rolling pin | silicone baking mat | stand mixer | bread proofing basket | cookie cutters
non-stick | dishwasher-safe | heat-resistant | family-size / 18 cm | 24 cm | 28 cm
sourdough bread | birthday cakes | Christmas biscuits
Backform | Nudelholz / Форма для выпечки | Скалка / 烘焙模具 | 擀面杖 / قالب كيك | شوبك عجين

Kitchen | kitchen knives | 58 | 0
chef's knife | bread knife | paring knife | knife sharpener | knife block | santoku knife
Damascus steel | high-carbon steel | ceramic | olive wood / 9 cm | 20 cm | set of 5
precise slicing | vegetables and herbs | ambitious home cooks
Kochmesser | Messerblock / Кухонный нож | Точилка для ножей / 厨师刀 | 磨刀器 / سكين طبخ | مسن سكاكين

Kitchen | pots and pans | 65 | 0
frying pan | casserole dish | saucepan | wok | stock pot | grill pan
cast iron | ceramic-coated | stainless steel | enamelled / 20 cm | 28 cm | 5 L
induction hobs | slow stews | searing steaks
Bratpfanne | Kochtopf / Сковорода | Кастрюля / 煎锅 | 炖锅 / مقلاة | قدر طبخ

Kitchen | food storage | 23 | 0
lunch box | storage jars | vacuum containers | bread bin | spice rack | freezer bags
airtight | bamboo | leakproof | reusable / 0.5 L | 1.5 L | set of 6
meal prep | dry goods | leftovers
Brotdose | Vorratsglas / Ланчбокс | Банка для хранения / 饭盒 | 密封罐 / علبة طعام | برطمان تخزين

Stationery and art | fountain pens | 38 | 0
fountain pen | calligraphy pen | ballpoint pen | mechanical pencil | pen case | rollerball pen
brass | walnut | lacquered | titanium / extra-fine | fine | medium
daily writing | signatures | elegant letters
Füllfederhalter | Kugelschreiber / Перьевая ручка | Шариковая ручка / 钢笔 | 圆珠笔 / قلم حبر | قلم جاف

Stationery and art | notebooks and planners | 16 | 0
dotted notebook | weekly planner | sketchbook | leather journal | spiral notepad | address book
hardcover | linen-bound | kraft paper | vegan leather / A6 | A5 | A4
bullet journals | students | meeting notes
Notizbuch | Wochenplaner / Блокнот | Ежедневник / 笔记本 | 周计划本 / دفتر ملاحظات | مخطط أسبوعي

Stationery and art | painting | 31 | 0
watercolour paint set | acrylic paint | paint brushes | stretched canvas | easel | oil pastels
artist-quality | student-grade | fine-art | studio / 12 colours | 24 colours | 30 x 40 cm
landscape painters | art classes | outdoor sketching
Aquarellfarben | Pinselset / Акварельные краски | Кисти для рисования / 水彩颜料 | 画笔套装 / ألوان مائية | فرش رسم

Stationery and art | ink and paper | 11 | 40
ink bottle | ink cartridges | printer paper | sticky notes | envelopes | glue sticks
recycled | acid-free | office | school / 50 ml | 100 sheets | 500 sheets
the home office | letter writing | school projects
Tinte | Druckerpapier / Чернила | Бумага для принтера / 墨水 | 打印纸 / حبر أقلام | ورق طباعة

Electronics | headphones | 95 | 0
wireless headphones | noise-cancelling earbuds | studio headphones | gaming headset | headphone stand
over-ear | Bluetooth | foldable | lightweight / 20 h battery | 30 h battery | 45 h battery
commuting | music production | video calls
Kopfhörer | Ohrhörer / Наушники | Игровая гарнитура / 无线耳机 | 耳塞 / سماعات رأس | سماعات أذن

Electronics | phone accessories | 25 | 0
phone case | power bank | USB-C charging cable | screen protector | phone tripod | wireless charger
slim | magnetic | universal | shockproof / 1 m | 2 m | 20000 mAh
drop protection | travelling light | the bedside table
Handyhülle | Ladekabel / Чехол для телефона | Внешний аккумулятор / 手机壳 | 充电宝 / غطاء هاتف | شاحن متنقل

Electronics | smart home | 70 | 0
smart thermostat | security camera | video doorbell | smart plug | motion sensor | robot vacuum
Wi-Fi | voice-controlled | app-controlled | low-energy / single | pack of 2 | pack of 4
saving energy | watching the front door | automation fans
Überwachungskamera | Smarte Steckdose / Камера наблюдения | Умная розетка / 监控摄像头 | 智能插座 / كاميرا مراقبة | مقبس ذكي

Electronics | computer accessories | 55 | 0
mechanical keyboard | ergonomic mouse | laptop stand | webcam | USB hub | monitor arm
aluminium | adjustable | ultra-slim | quiet / 13 inch | 15 inch | 27 inch
programmers | tidy desks | working from home
Tastatur | Laptopständer / Клавиатура | Подставка для ноутбука / 机械键盘 | 笔记本支架 / لوحة مفاتيح | حامل حاسوب

Beauty | skin care | 22 | 35
face moisturiser | vitamin C serum | cleansing foam | sunscreen lotion | clay face mask | hand cream
aloe vera | hyaluronic | unscented | shea butter / 30 ml | 50 ml | 200 ml
dry skin | oily skin | daily protection
Gesichtscreme | Sonnencreme / Крем для лица | Солнцезащитный крем / 面霜 | 防晒霜 / كريم وجه | واقي شمس

Beauty | hair care | 13 | 30
shampoo bar | hair conditioner | hair oil | curl cream | hair mask | dry shampoo
argan | coconut | sulphate-free | rosemary / 100 g | 250 ml | 400 ml
curly hair | fine hair | coloured hair
Shampoo | Haaröl / Шампунь | Масло для волос / 洗发水 | 护发素 / شامبو | زيت شعر

Beauty | shaving | 34 | 0
safety razor | shaving brush | beard trimmer | shaving bowl | beard comb | electric shaver
chrome | matte black | rosewood | waterproof / single | travel set | set of 3
a close shave | beard grooming | wet shaving
Rasierhobel | Bartschneider / Бритвенный станок | Триммер для бороды / 剃须刀 | 胡须修剪器 / ماكينة حلاقة | مشط لحية

Beauty | fragrance | 62 | 0
eau de parfum | cologne | perfume oil | body mist | solid perfume | perfume gift set
rose and oud | citrus | sandalwood | lavender / 10 ml | 50 ml | 100 ml
evenings out | fresh summer days | a lasting impression
Parfüm | Duftset / Духи | Туалетная вода / 香水 | 古龙水 / عطر | ماء عطر

Camping and outdoors | tents and sleeping bags | 130 | 0
camping tent | down sleeping bag | sleeping pad | hammock | bivouac tarp | camping cot
waterproof | insulated | ultralight | breathable / 1 person | 2 persons | 4 persons
alpine nights | summer festivals | wild camping
Campingzelt | Schlafsack / Палатка | Спальный мешок / 露营帐篷 | 睡袋 / خيمة تخييم | كيس نوم

Camping and outdoors | hiking | 85 | 0
hiking backpack | hiking boots | trekking poles | rain poncho | hiking map case | day pack
waterproof | waxed canvas | leather | ultralight / 20 L | 45 L | 65 L
long-distance trails | mountain huts | weekend hikes
Wanderrucksack | Wanderschuhe / Туристический рюкзак | Треккинговые палки / 登山背包 | 徒步鞋 / حقيبة ظهر | حذاء مشي

Camping and outdoors | camp cooking | 40 | 0
camping stove | mess kit | camp kettle | cool box | spork set | fire starter
titanium | enamel | anodised | folding / 0.75 L | 1.5 L | 24 L
meals under the stars | fishing trips | backcountry kitchens
Campingkocher | Kühlbox / Туристическая горелка | Котелок / 露营炉 | 保温箱 / موقد تخييم | صندوق تبريد

Camping and outdoors | climbing | 78 | 0
climbing rope | climbing harness | carabiner | chalk bag | climbing shoes | bouldering crash pad
alpine | competition | all-round | durable / 9.8 mm | 60 m | size 42
sport climbing | bouldering halls | via ferrata
Kletterseil | Klettergurt / Альпинистская верёвка | Скальные туфли / 登山绳 | 攀岩鞋 / حبل تسلق | حزام تسلق

Home | lighting | 54 | 0
table lamp | floor lamp | pendant light | fairy lights | desk lamp | wall sconce
brass | frosted glass | paper | oak / 25 cm | 45 cm | 160 cm
cosy corners | reading | dining tables
Tischlampe | Stehlampe / Настольная лампа | Торшер / 台灯 | 落地灯 / مصباح طاولة | مصباح أرضي

Home | bedding | 68 | 0
duvet cover set | feather pillow | bed sheet | weighted blanket | mattress topper | wool throw
Egyptian cotton | washed linen | satin | flannel / 90 x 200 cm | 140 x 200 cm | 200 x 200 cm
deep sleep | hot summer nights | guest rooms
Bettwäsche | Kopfkissen / Постельное бельё | Подушка / 床上用品套装 | 枕头 / طقم مفارش | وسادة نوم

Home | candles and cleaning | 12 | 30
scented candle | tealights | laundry detergent | washing-up liquid | dishwasher tablets | room spray
lavender | vanilla | citrus | plant-based / 180 g | 1 L | 50 pieces
fresh rooms | relaxing baths | spotless dishes
Duftkerze | Waschmittel / Ароматическая свеча | Стиральный порошок / 香薰蜡烛 | 洗衣液 / شمعة معطرة | مسحوق غسيل

Home | wall decor | 36 | 0
framed art print | wall mirror | photo frame | wall clock | tapestry | floating shelf
oak | gold-rimmed | botanical | macrame / 30 x 40 cm | 50 x 70 cm | 80 cm
living rooms | gallery walls | hallways
Wandspiegel | Bilderrahmen / Настенное зеркало | Фоторамка / 墙镜 | 相框 / مرآة حائط | إطار صور
"""  # noqa: E501 - ruff counts Chinese letters twice

# name: English words / one phrase in each of the other languages
_STYLES = """\
eco: eco-friendly | sustainable | plastic-free / umweltfreundlich / экологичный выбор / 环保 / صديق للبيئة
retro: retro | vintage-style | old-fashioned / im Retro-Stil / в стиле ретро / 复古 / طراز قديم
luxury: luxury | handcrafted | premium / luxuriös / премиум качество / 豪华 / فاخر
compact: compact | travel-size | space-saving / platzsparend / компактный размер / 便携 / حجم صغير
minimalist: minimalist | Scandinavian-style | plain / schlicht / минимализм / 简约 / تصميم بسيط
playful: colourful | playful | rainbow-coloured / bunt / яркие цвета / 彩色 / ألوان زاهية
professional: professional | heavy-duty | expert-grade / für Profis / для профессионалов / 专业 / للمحترفين
beginner: beginner-friendly | easy-to-use | starter / für Einsteiger / для начинающих / 入门 / للمبتدئين
"""

THEMES = tuple(_theme(block) for block in _THEMES.strip().split("\n\n"))
STYLES = tuple(_style(line) for line in _STYLES.strip().splitlines())
_BRANDS = _split(
    "Northfield | Bluebird | Oakfield & Sons | Silver Fox | Riverstone | Maple Lane | Greenway | "
    "Lighthouse | Red Kite | Stonebridge | Willow | Harbour | Juniper | Copper Hill | Fernwood | Skylark | "
    "Amber | Pinecone | Moonrise | Highland | Clearwater | Foxglove | Meadow | Ironbark | Summit | "
    "Driftwood | Kestrel | Thistle | Cobalt | Larch"
)

# Patterns of each of LANGUAGES; {kind} and {purpose} exist in English only.
_TITLES = (
    (
        "{style} {kind} {noun}, {size}",
        "{brand} {kind} {noun}, {style}, {size}",
        "{kind} {noun} for {purpose}, {style}",
        "{noun} - {style}, {kind}, {size}",
        "{brand} {noun} for {purpose} ({kind}, {style})",
    ),
    ("{brand} {noun}, {style}, {size}", "{noun} {style} von {brand}"),
    ("{noun} {brand}, {style}, {size}", "{noun}: {style}, {brand}"),
    ("{brand} {style}{noun} {size}", "{style}{noun} {brand}"),
    ("{noun} {style} {brand}، {size}", "{noun} {brand}، {style}"),
)
_DESCRIPTIONS = (
    (
        "This {style} {noun} is made for {purpose}.",
        "{style} choice for {purpose}: {kind} {noun} by {brand}, {size}.",
        "{kind} {noun}, made with {purpose} in mind. Ships within two days.",
        "Part of our {theme} range: {style} and well made.",
    ),
    ("{noun} von {brand}, {style}. Lieferung in zwei Tagen.", "Gute Qualität zum fairen Preis: {noun}."),
    ("{noun} от {brand}: {style}. Доставка за два дня.", "Хорошее качество по честной цене: {noun}."),
    ("{brand}{noun}，{style}，两天内发货。", "品质优良，价格公道的{noun}。"),
    ("{noun} من {brand}، {style}. التوصيل خلال يومين.", "جودة عالية وسعر مناسب: {noun}."),
)
EMOJI = {
    "Garden": "🌱",
    "Coffee and tea": "☕",
    "Baby": "👶",
    "Board games and puzzles": "🎲",
    "Running and fitness": "🏃",
    "Pets": "🐶",
    "Kitchen": "🍳",
    "Stationery and art": "🎨",
    "Electronics": "🎧",
    "Beauty": "💄",
    "Camping and outdoors": "🏕️",
    "Home": "🏠",
}

N_DRAWS = 8
"""How many random numbers the text of one item takes."""


def write_text(theme: Theme, style: Style, language: int, draws: Sequence[float]) -> tuple[str, str]:
    """Write the title and the description of one item.

    Args:
        theme: The shelf, from which noun, kind, size and purpose are picked.
        style: What the words of style are picked from.
        language: Index into `LANGUAGES`.
        draws: `N_DRAWS` numbers in [0, 1), one a choice.

    Returns:
        Title and description, each beginning with a capital letter.
    """
    choices = {
        "title": _TITLES[language],
        "description": _DESCRIPTIONS[language],
        "noun": theme.nouns[language],
        "style": style.words[language],
        "brand": _BRANDS,
        "kind": theme.kinds,
        "size": theme.sizes,
        "purpose": theme.purposes,
    }
    pairs = zip(choices.items(), draws, strict=True)
    picked = {name: words[int(draw * len(words))] for (name, words), draw in pairs}
    title = picked["title"].format(**picked)
    description = picked["description"].format(**picked, theme=theme.name)
    return _capitalised(title), _capitalised(description)


def _capitalised(text: str) -> str:
    return text[0].upper() + text[1:]


def search_phrases(theme: Theme, language: int) -> list[str]:
    """What people type who look for the theme: its nouns and, in English, its name."""
    nouns = list(theme.nouns[language])
    return [theme.name, *nouns] if LANGUAGES[language] == "en" else nouns
