"""Sentences of our own in 20 languages, to measure what trimming a vocabulary costs each of them."""

SENTENCES: dict[str, tuple[str, ...]] = {
    "en": (
        "The museum closes at six, so we should hurry if we want to see the new exhibition.",
        "Could you explain how a heat pump works and whether it is worth the money in a cold climate?",
        "My grandmother kept bees behind the orchard and sold the honey at the market every Saturday.",
    ),
    "de": (
        "Das Museum schließt um sechs, wir sollten uns also beeilen, wenn wir die neue Ausstellung sehen wollen.",
        "Kannst du mir erklären, wie eine Wärmepumpe funktioniert und ob sie sich in kaltem Klima lohnt?",
        "Meine Großmutter hielt Bienen hinter dem Obstgarten und verkaufte den Honig jeden Samstag auf dem Markt.",
    ),
    "es": (
        "El museo cierra a las seis, así que deberíamos darnos prisa si queremos ver la nueva exposición.",
        "¿Puedes explicarme cómo funciona una bomba de calor y si vale la pena en un clima frío?",
        "Mi abuela criaba abejas detrás del huerto y vendía la miel en el mercado todos los sábados.",
    ),
    "fr": (
        "Le musée ferme à six heures, il faut donc nous dépêcher si nous voulons voir la nouvelle exposition.",
        "Peux-tu m'expliquer comment fonctionne une pompe à chaleur et si elle vaut son prix en climat froid ?",
        "Ma grand-mère élevait des abeilles derrière le verger et vendait le miel au marché chaque samedi.",
    ),
    "it": (
        "Il museo chiude alle sei, quindi dovremmo sbrigarci se vogliamo vedere la nuova mostra.",
        "Puoi spiegarmi come funziona una pompa di calore e se conviene in un clima freddo?",
        "Mia nonna allevava le api dietro il frutteto e vendeva il miele al mercato ogni sabato.",
    ),
    "pt": (
        "O museu fecha às seis, por isso devemos apressar-nos se quisermos ver a nova exposição.",
        "Podes explicar-me como funciona uma bomba de calor e se vale a pena num clima frio?",
        "A minha avó criava abelhas atrás do pomar e vendia o mel no mercado todos os sábados.",
    ),
    "nl": (
        "Het museum sluit om zes uur, dus we moeten opschieten als we de nieuwe tentoonstelling willen zien.",
        "Kun je uitleggen hoe een warmtepomp werkt en of die in een koud klimaat de moeite waard is?",
    ),
    "pl": (
        "Muzeum zamykają o szóstej, więc powinniśmy się pospieszyć, jeśli chcemy zobaczyć nową wystawę.",
        "Czy możesz wyjaśnić, jak działa pompa ciepła i czy opłaca się w zimnym klimacie?",
    ),
    "tr": (
        "Müze saat altıda kapanıyor, yeni sergiyi görmek istiyorsak acele etmeliyiz.",
        "Isı pompasının nasıl çalıştığını ve soğuk iklimde paraya değip değmediğini anlatır mısın?",
    ),
    "vi": (
        "Bảo tàng đóng cửa lúc sáu giờ, nên chúng ta phải nhanh lên nếu muốn xem triển lãm mới.",
        "Bạn có thể giải thích máy bơm nhiệt hoạt động thế nào và có đáng tiền ở vùng lạnh không?",
    ),
    "id": (
        "Museum tutup pukul enam, jadi kita harus bergegas kalau ingin melihat pameran baru.",
        "Bisakah kamu menjelaskan cara kerja pompa panas dan apakah layak di iklim dingin?",
    ),
    "ru": (
        "Музей закрывается в шесть, поэтому нам стоит поторопиться, если мы хотим увидеть новую выставку.",
        "Объясни, пожалуйста, как работает тепловой насос и стоит ли он своих денег в холодном климате.",
        "Моя бабушка держала пчёл за садом и каждую субботу продавала мёд на рынке.",
    ),
    "uk": (
        "Музей зачиняється о шостій, тож нам варто поквапитися, якщо хочемо побачити нову виставку.",
        "Поясни, будь ласка, як працює тепловий насос і чи вартий він своїх грошей у холодному кліматі.",
    ),
    "ar": (
        "يغلق المتحف في السادسة، لذلك علينا أن نسرع إذا أردنا رؤية المعرض الجديد.",
        "هل يمكنك أن تشرح كيف تعمل المضخة الحرارية وهل تستحق ثمنها في مناخ بارد؟",
        "كانت جدتي تربي النحل خلف البستان وتبيع العسل في السوق كل يوم سبت.",
    ),
    "he": (
        "המוזיאון נסגר בשש, ולכן כדאי שנמהר אם אנחנו רוצים לראות את התערוכה החדשה.",
        "אתה יכול להסביר איך עובדת משאבת חום והאם היא משתלמת באקלים קר?",
    ),
    "hi": (
        "संग्रहालय छह बजे बंद होता है, इसलिए नई प्रदर्शनी देखनी हो तो हमें जल्दी करनी चाहिए।",
        "क्या आप समझा सकते हैं कि हीट पंप कैसे काम करता है और ठंडी जगह में वह पैसे के लायक है या नहीं?",
        "मेरी दादी बाग के पीछे मधुमक्खियाँ पालती थीं और हर शनिवार बाज़ार में शहद बेचती थीं।",
    ),
    "th": (
        "พิพิธภัณฑ์ปิดหกโมง เราจึงควรรีบถ้าอยากดูนิทรรศการใหม่",
        "ช่วยอธิบายหน่อยว่าปั๊มความร้อนทำงานอย่างไร และคุ้มค่าในอากาศหนาวหรือไม่",
        "คุณย่าของฉันเลี้ยงผึ้งหลังสวนผลไม้และขายน้ำผึ้งที่ตลาดทุกวันเสาร์",
    ),
    "zh": (
        "博物馆六点关门，如果想看新展览，我们得快一点。",
        "你能解释一下热泵是怎么工作的吗？在寒冷的地方值得买吗？",
        "我奶奶在果园后面养蜂，每个星期六都在市场上卖蜂蜜。",
    ),
    "ja": (
        "博物館は六時に閉まるので、新しい展示を見たいなら急いだほうがいいです。",
        "ヒートポンプの仕組みと、寒い地域で元が取れるかどうかを説明してくれますか。",
        "祖母は果樹園の裏で蜂を飼い、毎週土曜日に市場で蜂蜜を売っていました。",
    ),
    "ko": (
        "박물관은 여섯 시에 문을 닫으니 새 전시를 보려면 서둘러야 해요.",
        "열펌프가 어떻게 작동하는지, 추운 지역에서도 돈값을 하는지 설명해 줄래요?",
        "할머니는 과수원 뒤에서 벌을 치고 토요일마다 시장에서 꿀을 파셨다.",
    ),
}
