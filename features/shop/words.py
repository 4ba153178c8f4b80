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
    head, *lines = block.splitlines()
    category, name, price, refill_days = _split(head)
    words = {key: _split(listed) for key, listed in (line.split(": ", 1) for line in lines)}
    return Theme(
        category=category,
        name=name,
        typical_price=float(price),
        refill_days=int(refill_days),
        nouns=tuple(words["nouns" if language == "en" else language] for language in LANGUAGES),
        kinds=words["kinds"],
        sizes=words["sizes"],
        purposes=words["purposes"],
    )


def _style(line: str) -> Style:
    name, listed = line.split(": ", 1)
    return Style(name, tuple(_split(words) for words in listed.split(" / ")))


# First line of a block: category | theme | typical price | days until used up (0: bought once).
_THEMES = """\
Garden | garden hand tools | 22 | 0
nouns: pruning shears | garden trowel | hedge clippers | weeding fork | leaf rake | digging spade
kinds: carbon steel | stainless steel | ash wood | aluminium
sizes: 20 cm | 35 cm | 90 cm
purposes: roses and shrubs | heavy soil | small gardens
de: Gartenschere | Handspaten
ru: Садовый секатор | Садовая лопата
zh: 园艺剪刀 | 小铁铲
ar: مقص تقليم | مجرفة حديقة

Garden | garden watering | 30 | 0
nouns: garden hose | watering can | lawn sprinkler | drip irrigation kit | rain barrel | hose reel
kinds: rubber | galvanised metal | recycled plastic | brass
sizes: 5 L | 10 L | 25 m
purposes: lawns and flower beds | greenhouses | balconies in summer
de: Gartenschlauch | Gießkanne
ru: Садовый шланг | Лейка для полива
zh: 花园水管 | 浇水壶
ar: خرطوم حديقة | إبريق سقي

Garden | seeds and plant food | 7 | 30
nouns: tomato seeds | wildflower seed mix | potting soil | lawn fertiliser | herb seeds | compost
kinds: organic | untreated | all-purpose | regional
sizes: 50 g | 1 kg | 20 L
purposes: raised beds | spring sowing | window boxes
de: Tomatensamen | Blumenerde
ru: Семена томатов | Грунт для рассады
zh: 番茄种子 | 营养土
ar: بذور طماطم | تربة زراعية

Garden | flower pots and planters | 26 | 0
nouns: flower pot | hanging planter | balcony planter box | plant stand | succulent bowl | orchid pot
kinds: terracotta | glazed ceramic | cedar wood | concrete
sizes: 12 cm | 24 cm | 60 cm
purposes: house plants | terraces | window sills
de: Blumentopf | Pflanzkasten
ru: Цветочный горшок | Кашпо
zh: 花盆 | 吊篮花盆
ar: أصيص زهور | حوض نباتات

Coffee and tea | coffee brewing | 48 | 0
nouns: pour-over coffee kettle | French press | espresso machine | coffee grinder | moka pot | coffee dripper
kinds: stainless steel | borosilicate glass | matte black | copper
sizes: 0.6 L | 1 L | 1.2 L
purposes: slow mornings | the office kitchen | filter coffee lovers
de: Kaffeemühle | Espressokocher
ru: Кофемолка | Гейзерная кофеварка
zh: 咖啡磨豆机 | 手冲咖啡壶
ar: مطحنة قهوة | إبريق قهوة

Coffee and tea | coffee for the cupboard | 14 | 21
nouns: coffee beans | espresso roast | filter coffee | decaf coffee | single-origin coffee | coffee capsules
kinds: Ethiopian Arabica | dark | Colombian | fair-trade
sizes: 250 g | 500 g | 1 kg
purposes: espresso and cappuccino | cold brew | everyday drinking
de: Kaffeebohnen | Filterkaffee
ru: Кофе в зёрнах | Молотый кофе
zh: 咖啡豆 | 咖啡粉
ar: حبوب قهوة | قهوة مطحونة

Coffee and tea | loose leaf tea | 10 | 30
nouns: green tea | Earl Grey tea | herbal tea blend | oolong tea | chai tea | peppermint tea
kinds: loose leaf | hand-picked | Himalayan | caffeine-free
sizes: 100 g | 250 g | 40 bags
purposes: quiet evenings | afternoon breaks | iced tea
de: Grüner Tee | Kräutertee
ru: Зелёный чай | Травяной чай
zh: 绿茶 | 乌龙茶
ar: شاي أخضر | شاي أعشاب

Coffee and tea | mugs and teapots | 19 | 0
nouns: coffee mug | teapot | espresso cups | thermos mug | tea infuser | latte glasses
kinds: porcelain | stoneware | double-wall | hand-glazed
sizes: 250 ml | 400 ml | set of 4
purposes: hot drinks | the breakfast table | tea ceremonies
de: Kaffeetasse | Teekanne
ru: Кружка | Заварочный чайник
zh: 咖啡杯 | 茶壶
ar: كوب قهوة | إبريق شاي

Baby | baby clothes | 17 | 0
nouns: baby bodysuit | romper suit | baby socks | knitted baby hat | toddler pyjamas | baby cardigan
kinds: organic cotton | merino wool | bamboo | fleece
sizes: 0-3 months | 6-12 months | 2 years
purposes: newborns | cold days | sensitive skin
de: Babybody | Strampler
ru: Боди для малыша | Детская шапочка
zh: 婴儿连体衣 | 婴儿帽
ar: ملابس أطفال | قبعة رضيع

Baby | nappies and wipes | 21 | 14
nouns: disposable nappies | baby wipes | overnight diapers | nappy cream | training pants | changing pads
kinds: fragrance-free | ultra-soft | hypoallergenic | plant-based
sizes: 44 pieces | 80 pieces | 200 pieces
purposes: dry nights | active crawlers | delicate skin
de: Babywindeln | Feuchttücher
ru: Подгузники | Влажные салфетки
zh: 纸尿裤 | 婴儿湿巾
ar: حفاضات | مناديل مبللة

Baby | nursery furniture | 120 | 0
nouns: baby cot | changing table | nursing chair | crib mattress | baby night light | cot mobile
kinds: beech wood | white | pine | convertible
sizes: 60 x 120 cm | 70 x 140 cm | foldable
purposes: the first nursery | small bedrooms | calm nights
de: Babybett | Wickeltisch
ru: Детская кроватка | Пеленальный столик
zh: 婴儿床 | 尿布台
ar: سرير أطفال | طاولة تغيير

Baby | strollers and carriers | 180 | 0
nouns: baby stroller | baby carrier | infant car seat | jogging pram | baby sling | stroller rain cover
kinds: lightweight | breathable mesh | ergonomic | all-terrain
sizes: up to 9 kg | up to 15 kg | up to 22 kg
purposes: city walks | long journeys | hands-free parents
de: Kinderwagen | Babytrage
ru: Детская коляска | Слинг
zh: 婴儿推车 | 婴儿背带
ar: عربة أطفال | حاملة رضيع

Board games and puzzles | strategy board games | 42 | 0
nouns: strategy board game | chess set | worker placement game | empire game | deck-building game | wargame
kinds: wooden | cardboard | magnetic | illustrated
sizes: 2 players | 2-4 players | 1-5 players
purposes: long game nights | tactical thinkers | rainy weekends
de: Strategiespiel | Schachspiel
ru: Настольная стратегия | Шахматы
zh: 策略桌游 | 国际象棋
ar: لعبة استراتيجية | شطرنج

Board games and puzzles | family party games | 24 | 0
nouns: party card game | trivia quiz game | charades game | memory game | drawing and guessing game | dominoes
kinds: pocket | family edition | cooperative | bilingual
sizes: 3-8 players | 4-10 players | ages 6+
purposes: birthday parties | holiday evenings | grandparents and children
de: Kartenspiel | Partyspiel
ru: Карточная игра | Игра для вечеринки
zh: 派对纸牌游戏 | 家庭桌游
ar: لعبة ورق | لعبة عائلية

Board games and puzzles | jigsaw puzzles | 18 | 0
nouns: jigsaw puzzle | landscape puzzle | wooden puzzle | 3D puzzle | puzzle mat | brain teaser
kinds: alpine lake | world map | night sky | famous painting
sizes: 500 pieces | 1000 pieces | 2000 pieces
purposes: patient hands | winter evenings | framing on the wall
de: Puzzle | Holzpuzzle
ru: Пазл | Деревянная головоломка
zh: 拼图 | 木制拼图
ar: أحجية صور | أحجية خشبية

Board games and puzzles | role-playing and dice | 28 | 0
nouns: dice set | fantasy miniature | role-playing rulebook | game master screen | dice tower | battle map
kinds: limited-edition | dragon-themed | metal | hand-painted
sizes: 7 dice | A4 | 28 mm
purposes: dungeon crawls | story tellers | campaign evenings
de: Würfelset | Rollenspielbuch
ru: Набор кубиков | Фэнтези миниатюра
zh: 骰子套装 | 角色扮演手册
ar: مجموعة نرد | كتاب لعب أدوار

Running and fitness | running gear | 75 | 0
nouns: running shoes | running shorts | trail running vest | running jacket | running belt | compression socks
kinds: breathable mesh | waterproof | reflective | seamless
sizes: size S | size M | size L
purposes: marathon training | dark mornings | muddy trails
de: Laufschuhe | Laufjacke
ru: Беговые кроссовки | Беговая куртка
zh: 跑步鞋 | 跑步短裤
ar: حذاء جري | سترة جري

Running and fitness | yoga | 32 | 0
nouns: yoga mat | yoga block | meditation cushion | yoga strap | pilates ring | yoga leggings
kinds: natural rubber | cork | cotton | non-slip
sizes: 4 mm | 6 mm | 183 cm
purposes: morning stretches | hot yoga | breathing exercises
de: Yogamatte | Meditationskissen
ru: Коврик для йоги | Подушка для медитации
zh: 瑜伽垫 | 冥想坐垫
ar: سجادة يوغا | وسادة تأمل

Running and fitness | strength training | 60 | 0
nouns: kettlebell | adjustable dumbbells | pull-up bar | resistance bands | weight bench | barbell set
kinds: cast iron | neoprene-coated | rubber | steel
sizes: 8 kg | 16 kg | 24 kg
purposes: home gyms | muscle building | full-body workouts
de: Kurzhantel | Klimmzugstange
ru: Гантели | Турник
zh: 哑铃 | 引体向上杆
ar: دمبل | عقلة رياضية

Running and fitness | sports nutrition | 27 | 25
nouns: whey protein powder | energy bars | electrolyte tablets | recovery shake | energy gels | creatine
kinds: vanilla | chocolate | lemon | vegan
sizes: 12 pieces | 500 g | 1 kg
purposes: endurance athletes | after the workout | long rides
de: Proteinpulver | Energieriegel
ru: Протеин | Энергетический батончик
zh: 蛋白粉 | 能量棒
ar: مسحوق بروتين | ألواح طاقة

Pets | dog walking | 24 | 0
nouns: dog leash | dog harness | dog collar | dog raincoat | retractable lead | dog car seat cover
kinds: leather | nylon | reflective | padded
sizes: small breeds | medium breeds | large breeds
purposes: strong pullers | puppies | night walks
de: Hundeleine | Hundegeschirr
ru: Поводок для собаки | Ошейник
zh: 狗牵引绳 | 狗项圈
ar: مقود كلب | طوق كلب

Pets | dog food | 29 | 20
nouns: dry dog food | canned dog food | dog treats | puppy kibble | dental chews | raw dog food
kinds: salmon | grain-free chicken | lamb and rice | beef
sizes: 800 g | 3 kg | 12 kg
purposes: adult dogs | sensitive stomachs | training rewards
de: Hundefutter | Hundeleckerli
ru: Корм для собак | Лакомство для собак
zh: 狗粮 | 狗零食
ar: طعام كلاب | مكافآت كلاب

Pets | cat litter and food | 18 | 16
nouns: cat litter | wet cat food | kitten food | cat snacks | catnip | litter deodoriser
kinds: natural | grain-free | extra-fresh | plant-based
sizes: 400 g | 5 kg | 10 L
purposes: indoor cats | fussy eaters | odour control
de: Katzenstreu | Katzenfutter
ru: Наполнитель для кошек | Корм для кошек
zh: 猫砂 | 猫粮
ar: رمل قطط | طعام قطط

Pets | aquarium | 45 | 0
nouns: glass aquarium | aquarium filter | fish tank heater | aquarium plants | aquarium gravel | air pump
kinds: freshwater | low-maintenance | nano | tropical
sizes: 20 L | 54 L | 120 L
purposes: tropical fish | shrimp tanks | planted tanks
de: Aquarium | Aquariumfilter
ru: Аквариум | Фильтр для аквариума
zh: 水族箱 | 鱼缸过滤器
ar: حوض أسماك | فلتر حوض

Kitchen | baking | 20 | 0
nouns: cake tin | rolling pin | silicone baking mat | stand mixer | bread proofing basket | cookie cutters
kinds: non-stick | dishwasher-safe | heat-resistant | family-size
sizes: 18 cm | 24 cm | 28 cm
purposes: sourdough bread | birthday cakes | Christmas biscuits
de: Backform | Nudelholz
ru: Форма для выпечки | Скалка
zh: 烘焙模具 | 擀面杖
ar: قالب كيك | شوبك عجين

Kitchen | kitchen knives | 58 | 0
nouns: chef's knife | bread knife | paring knife | knife sharpener | knife block | santoku knife
kinds: Damascus steel | high-carbon steel | ceramic | olive wood
sizes: 9 cm | 20 cm | set of 5
purposes: precise slicing | vegetables and herbs | ambitious home cooks
de: Kochmesser | Messerblock
ru: Кухонный нож | Точилка для ножей
zh: 厨师刀 | 磨刀器
ar: سكين طبخ | مسن سكاكين

Kitchen | pots and pans | 65 | 0
nouns: frying pan | casserole dish | saucepan | wok | stock pot | grill pan
kinds: cast iron | ceramic-coated | stainless steel | enamelled
sizes: 20 cm | 28 cm | 5 L
purposes: induction hobs | slow stews | searing steaks
de: Bratpfanne | Kochtopf
ru: Сковорода | Кастрюля
zh: 煎锅 | 炖锅
ar: مقلاة | قدر طبخ

Kitchen | food storage | 23 | 0
nouns: lunch box | storage jars | vacuum containers | bread bin | spice rack | freezer bags
kinds: airtight | bamboo | leakproof | reusable
sizes: 0.5 L | 1.5 L | set of 6
purposes: meal prep | dry goods | leftovers
de: Brotdose | Vorratsglas
ru: Ланчбокс | Банка для хранения
zh: 饭盒 | 密封罐
ar: علبة طعام | برطمان تخزين

Stationery and art | fountain pens | 38 | 0
nouns: fountain pen | calligraphy pen | ballpoint pen | mechanical pencil | pen case | rollerball pen
kinds: brass | walnut | lacquered | titanium
sizes: extra-fine | fine | medium
purposes: daily writing | signatures | elegant letters
de: Füllfederhalter | Kugelschreiber
ru: Перьевая ручка | Шариковая ручка
zh: 钢笔 | 圆珠笔
ar: قلم حبر | قلم جاف

Stationery and art | notebooks and planners | 16 | 0
nouns: dotted notebook | weekly planner | sketchbook | leather journal | spiral notepad | address book
kinds: hardcover | linen-bound | kraft paper | vegan leather
sizes: A6 | A5 | A4
purposes: bullet journals | students | meeting notes
de: Notizbuch | Wochenplaner
ru: Блокнот | Ежедневник
zh: 笔记本 | 周计划本
ar: دفتر ملاحظات | مخطط أسبوعي

Stationery and art | painting | 31 | 0
nouns: watercolour paint set | acrylic paint | paint brushes | stretched canvas | easel | oil pastels
kinds: artist-quality | student-grade | fine-art | studio
sizes: 12 colours | 24 colours | 30 x 40 cm
purposes: landscape painters | art classes | outdoor sketching
de: Aquarellfarben | Pinselset
ru: Акварельные краски | Кисти для рисования
zh: 水彩颜料 | 画笔套装
ar: ألوان مائية | فرش رسم

Stationery and art | ink and paper | 11 | 40
nouns: ink bottle | ink cartridges | printer paper | sticky notes | envelopes | glue sticks
kinds: recycled | acid-free | office | school
sizes: 50 ml | 100 sheets | 500 sheets
purposes: the home office | letter writing | school projects
de: Tinte | Druckerpapier
ru: Чернила | Бумага для принтера
zh: 墨水 | 打印纸
ar: حبر أقلام | ورق طباعة

Electronics | headphones | 95 | 0
nouns: wireless headphones | noise-cancelling earbuds | studio headphones | gaming headset | headphone stand
kinds: over-ear | Bluetooth | foldable | lightweight
sizes: 20 h battery | 30 h battery | 45 h battery
purposes: commuting | music production | video calls
de: Kopfhörer | Ohrhörer
ru: Наушники | Игровая гарнитура
zh: 无线耳机 | 耳塞
ar: سماعات رأس | سماعات أذن

Electronics | phone accessories | 25 | 0
nouns: phone case | power bank | USB-C charging cable | screen protector | phone tripod | wireless charger
kinds: slim | magnetic | universal | shockproof
sizes: 1 m | 2 m | 20000 mAh
purposes: drop protection | travelling light | the bedside table
de: Handyhülle | Ladekabel
ru: Чехол для телефона | Внешний аккумулятор
zh: 手机壳 | 充电宝
ar: غطاء هاتف | شاحن متنقل

Electronics | smart home | 70 | 0
nouns: smart thermostat | security camera | video doorbell | smart plug | motion sensor | robot vacuum
kinds: Wi-Fi | voice-controlled | app-controlled | low-energy
sizes: single | pack of 2 | pack of 4
purposes: saving energy | watching the front door | automation fans
de: Überwachungskamera | Smarte Steckdose
ru: Камера наблюдения | Умная розетка
zh: 监控摄像头 | 智能插座
ar: كاميرا مراقبة | مقبس ذكي

Electronics | computer accessories | 55 | 0
nouns: mechanical keyboard | ergonomic mouse | laptop stand | webcam | USB hub | monitor arm
kinds: aluminium | adjustable | ultra-slim | quiet
sizes: 13 inch | 15 inch | 27 inch
purposes: programmers | tidy desks | working from home
de: Tastatur | Laptopständer
ru: Клавиатура | Подставка для ноутбука
zh: 机械键盘 | 笔记本支架
ar: لوحة مفاتيح | حامل حاسوب

Beauty | skin care | 22 | 35
nouns: face moisturiser | vitamin C serum | cleansing foam | sunscreen lotion | clay face mask | hand cream
kinds: aloe vera | hyaluronic | unscented | shea butter
sizes: 30 ml | 50 ml | 200 ml
purposes: dry skin | oily skin | daily protection
de: Gesichtscreme | Sonnencreme
ru: Крем для лица | Солнцезащитный крем
zh: 面霜 | 防晒霜
ar: كريم وجه | واقي شمس

Beauty | hair care | 13 | 30
nouns: shampoo bar | hair conditioner | hair oil | curl cream | hair mask | dry shampoo
kinds: argan | coconut | sulphate-free | rosemary
sizes: 100 g | 250 ml | 400 ml
purposes: curly hair | fine hair | coloured hair
de: Shampoo | Haaröl
ru: Шампунь | Масло для волос
zh: 洗发水 | 护发素
ar: شامبو | زيت شعر

Beauty | shaving | 34 | 0
nouns: safety razor | shaving brush | beard trimmer | shaving bowl | beard comb | electric shaver
kinds: chrome | matte black | rosewood | waterproof
sizes: single | travel set | set of 3
purposes: a close shave | beard grooming | wet shaving
de: Rasierhobel | Bartschneider
ru: Бритвенный станок | Триммер для бороды
zh: 剃须刀 | 胡须修剪器
ar: ماكينة حلاقة | مشط لحية

Beauty | fragrance | 62 | 0
nouns: eau de parfum | cologne | perfume oil | body mist | solid perfume | perfume gift set
kinds: rose and oud | citrus | sandalwood | lavender
sizes: 10 ml | 50 ml | 100 ml
purposes: evenings out | fresh summer days | a lasting impression
de: Parfüm | Duftset
ru: Духи | Туалетная вода
zh: 香水 | 古龙水
ar: عطر | ماء عطر

Camping and outdoors | tents and sleeping bags | 130 | 0
nouns: camping tent | down sleeping bag | sleeping pad | hammock | bivouac tarp | camping cot
kinds: waterproof | insulated | ultralight | breathable
sizes: 1 person | 2 persons | 4 persons
purposes: alpine nights | summer festivals | wild camping
de: Campingzelt | Schlafsack
ru: Палатка | Спальный мешок
zh: 露营帐篷 | 睡袋
ar: خيمة تخييم | كيس نوم

Camping and outdoors | hiking | 85 | 0
nouns: hiking backpack | hiking boots | trekking poles | rain poncho | hiking map case | day pack
kinds: waterproof | waxed canvas | leather | ultralight
sizes: 20 L | 45 L | 65 L
purposes: long-distance trails | mountain huts | weekend hikes
de: Wanderrucksack | Wanderschuhe
ru: Туристический рюкзак | Треккинговые палки
zh: 登山背包 | 徒步鞋
ar: حقيبة ظهر | حذاء مشي

Camping and outdoors | camp cooking | 40 | 0
nouns: camping stove | mess kit | camp kettle | cool box | spork set | fire starter
kinds: titanium | enamel | anodised | folding
sizes: 0.75 L | 1.5 L | 24 L
purposes: meals under the stars | fishing trips | backcountry kitchens
de: Campingkocher | Kühlbox
ru: Туристическая горелка | Котелок
zh: 露营炉 | 保温箱
ar: موقد تخييم | صندوق تبريد

Camping and outdoors | climbing | 78 | 0
nouns: climbing rope | climbing harness | carabiner | chalk bag | climbing shoes | bouldering crash pad
kinds: alpine | competition | all-round | durable
sizes: 9.8 mm | 60 m | size 42
purposes: sport climbing | bouldering halls | via ferrata
de: Kletterseil | Klettergurt
ru: Альпинистская верёвка | Скальные туфли
zh: 登山绳 | 攀岩鞋
ar: حبل تسلق | حزام تسلق

Home | lighting | 54 | 0
nouns: table lamp | floor lamp | pendant light | fairy lights | desk lamp | wall sconce
kinds: brass | frosted glass | paper | oak
sizes: 25 cm | 45 cm | 160 cm
purposes: cosy corners | reading | dining tables
de: Tischlampe | Stehlampe
ru: Настольная лампа | Торшер
zh: 台灯 | 落地灯
ar: مصباح طاولة | مصباح أرضي

Home | bedding | 68 | 0
nouns: duvet cover set | feather pillow | bed sheet | weighted blanket | mattress topper | wool throw
kinds: Egyptian cotton | washed linen | satin | flannel
sizes: 90 x 200 cm | 140 x 200 cm | 200 x 200 cm
purposes: deep sleep | hot summer nights | guest rooms
de: Bettwäsche | Kopfkissen
ru: Постельное бельё | Подушка
zh: 床上用品套装 | 枕头
ar: طقم مفارش | وسادة نوم

Home | candles and cleaning | 12 | 30
nouns: scented candle | tealights | laundry detergent | washing-up liquid | dishwasher tablets | room spray
kinds: lavender | vanilla | citrus | plant-based
sizes: 180 g | 1 L | 50 pieces
purposes: fresh rooms | relaxing baths | spotless dishes
de: Duftkerze | Waschmittel
ru: Ароматическая свеча | Стиральный порошок
zh: 香薰蜡烛 | 洗衣液
ar: شمعة معطرة | مسحوق غسيل

Home | wall decor | 36 | 0
nouns: framed art print | wall mirror | photo frame | wall clock | tapestry | floating shelf
kinds: oak | gold-rimmed | botanical | macrame
sizes: 30 x 40 cm | 50 x 70 cm | 80 cm
purposes: living rooms | gallery walls | hallways
de: Wandspiegel | Bilderrahmen
ru: Настенное зеркало | Фоторамка
zh: 墙镜 | 相框
ar: مرآة حائط | إطار صور
"""

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
