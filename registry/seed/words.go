package seed

// country is what the farmers of one country are made of. Names and places are ordinary ones of the country; no
// combination stands for a person.
type country struct {
	code    string // ISO 3166-1 alpha-3, as in registry.Village
	prefix  string // of national ids
	share   int    // of the farmers, in percent
	dial    string
	mobile  string // first digit of a mobile number
	digits  int    // of a number after the dial code
	islands []island
	female  []string
	male    []string
	family  []string
}

type island struct {
	name     string
	villages []string
}

var countries = []country{
	{
		code: "COK", prefix: "CK", share: 6, dial: "+682", mobile: "5", digits: 5,
		islands: []island{
			{"Rarotonga", []string{"Avarua", "Arorangi", "Titikaveka", "Ngatangiia", "Matavera", "Nikao", "Muri", "Tupapa", "Takuvaine", "Ruaau"}},
			{"Aitutaki", []string{"Arutanga", "Amuri", "Ureia", "Vaipae", "Tautu", "Nikaupara", "Reureu"}},
			{"Mangaia", []string{"Oneroa", "Tamarua", "Ivirua"}},
			{"Atiu", []string{"Areora", "Ngatiarua", "Teenui", "Mapumai", "Tengatangi"}},
			{"Mauke", []string{"Kimiangatau", "Ngatiarua", "Oiretumu"}},
		},
		female: []string{"Mereana", "Tepaeru", "Ngatokorua", "Teremoana", "Vaine", "Tuakana", "Moeroa", "Noeline", "Marama", "Teina", "Upoko", "Nooroa", "Taiana", "Mii", "Rangi", "Ina"},
		male:   []string{"Tere", "Tamatoa", "Tangaroa", "Ngametua", "Papa", "Teariki", "Tuaine", "Iotua", "Metua", "Nga", "Rongo", "Mataiti", "Tupui", "Taraota", "Apii", "William"},
		family: []string{"Tuatai", "Marsters", "Puna", "Maoate", "Rasmussen", "Ngatae", "Tangimetua", "Teariki", "Tuara", "Pokino", "Ioane", "Vainerere", "Tairea", "Matapo", "Samuela", "Kauraka", "Nicholas", "Tauira", "Pera", "Māriri"},
	},
	{
		code: "WSM", prefix: "WS", share: 20, dial: "+685", mobile: "7", digits: 7,
		islands: []island{
			{"Upolu", []string{"Apia", "Vaitele", "Faleasiu", "Vailele", "Leauvaʻa", "Siusega", "Malie", "Solosolo", "Lufilufi", "Falefa", "Lotofaga", "Poutasi", "Siumu", "Lefaga", "Falelatai", "Mulifanua", "Saleilua", "Vaovai"}},
			{"Savaiʻi", []string{"Salelologa", "Fagamalo", "Safotu", "Sasina", "Asau", "Falealupo", "Salailua", "Taga", "Palauli", "Puʻapuʻa", "Tuasivi", "Sapapaliʻi", "Satupaʻitea", "Gataivai"}},
			{"Manono", []string{"Faleu", "Lepuiaʻi", "Apai", "Salua"}},
			{"Apolima", []string{"Apolima-tai"}},
		},
		female: []string{"Sina", "Malia", "Lagi", "Fetu", "Tala", "Leilani", "Moana", "Siʻai", "Faʻafetai", "Losa", "Ana", "Mele", "Lupe", "Tina", "Salote", "Penina", "Masina", "Fuatino"},
		male:   []string{"Tavita", "Sione", "Ioane", "Mikaele", "Tui", "Lafaele", "Pita", "Semisi", "Faleolo", "Tanielu", "Iosefo", "Fetaui", "Vaʻa", "Simi", "Petelo", "Afa", "Manu", "Sefo"},
		family: []string{"Tuilagi", "Leota", "Faleafa", "Tuiasau", "Leavasa", "Fonoti", "Seumanu", "Toleafoa", "Aiono", "Lealaiauloto", "Faʻasavalu", "Matautia", "Tamasese", "Vaai", "Sapolu", "Ulugia", "Pereira", "Meredith", "Tuala", "Leiataua"},
	},
	{
		code: "TON", prefix: "TO", share: 14, dial: "+676", mobile: "7", digits: 7,
		islands: []island{
			{"Tongatapu", []string{"Nukuʻalofa", "Muʻa", "Nukunuku", "Kolovai", "Vaini", "Haʻateiho", "Pea", "Fuaʻamotu", "Lapaha", "Kolonga", "Houma", "Teʻekiu", "Kanokupolu", "Folaha", "Nakolo", "Niutoua"}},
			{"Vavaʻu", []string{"Neiafu", "Leimatuʻa", "Pangaimotu", "Longomapu", "Tuʻanuku", "Taʻanea", "Holonga"}},
			{"Haʻapai", []string{"Pangai", "Hihifo", "Lotofoa", "Koulo", "Faleloa"}},
			{"ʻEua", []string{"ʻOhonua", "Angahā", "Houma", "Petani", "Tufuvai"}},
			{"Niuatoputapu", []string{"Hihifo", "Vaipoa", "Falehau"}},
		},
		female: []string{"Mele", "ʻAna", "Sālote", "Lupe", "Siosiana", "Losaline", "Vika", "Kalolaine", "Fusi", "Tupou", "Luseane", "ʻOfa", "Heilala", "Lavinia", "Seini", "Pisila", "Meliame"},
		male:   []string{"Sione", "Viliami", "Tēvita", "Semisi", "ʻIsileli", "Taniela", "Maka", "Sitiveni", "Paula", "Siaosi", "Mosese", "Penisimani", "Tonga", "Kepu", "ʻAlipate", "Folau", "Latu"},
		family: []string{"Taufa", "Fifita", "Vainikolo", "Moala", "Tupou", "Havili", "Kaufusi", "Fonua", "Lātū", "Mahe", "Vea", "Kioa", "Manu", "Tuʻipulotu", "Fakatava", "Pōhiva", "Hala", "Naufahu", "Tauʻataina", "Finau"},
	},
	{
		code: "SLB", prefix: "SB", share: 35, dial: "+677", mobile: "7", digits: 7,
		islands: []island{
			{"Guadalcanal", []string{"Visale", "Tenaru", "Tetere", "Aola", "Avuavu", "Marau", "Lambi", "Tangarare", "Nuhu", "Kakabona", "Gold Ridge"}},
			{"Malaita", []string{"Auki", "Malu'u", "Dala", "Fouia", "Atori", "Kwailibesi", "Rokera", "Afio", "Bita'ama", "Buma", "Fauabu", "Gwaunatolo"}},
			{"Makira", []string{"Kirakira", "Marunga", "Namuga", "Pamua", "Tawatana", "Manasugu"}},
			{"Santa Isabel", []string{"Buala", "Kia", "Tatamba", "Susubona", "Kolotubi", "Jejevo"}},
			{"New Georgia", []string{"Munda", "Noro", "Seghe", "Viru", "Roviana", "Paradise"}},
			{"Choiseul", []string{"Taro", "Sasamungga", "Wagina", "Panggoe"}},
			{"Temotu", []string{"Lata", "Graciosa Bay", "Nea", "Manuopo"}},
			{"Rennell", []string{"Tingoa", "Lavanggu", "Hutuna"}},
		},
		female: []string{"Ruth", "Mary", "Esther", "Naomi", "Joyce", "Rose", "Hellen", "Jenly", "Freda", "Ethel", "Salome", "Doreen", "Nester", "Lovelyn", "Margret", "Betty", "Junita", "Everlyn"},
		male:   []string{"John", "Peter", "Moses", "Nathaniel", "Silas", "Ezekiel", "Hudson", "Clement", "Rex", "Japhet", "Barnabas", "Festus", "Walter", "Selwyn", "Billy", "Ishmael", "Leonard", "Junior"},
		family: []string{"Kwaimani", "Maelanga", "Waleanisia", "Fa'asi", "Suri", "Ramoni", "Hou", "Tahu", "Bosamata", "Kuper", "Vaka", "Zama", "Pitakaka", "Liliqeto", "Maneka", "Ghiro", "Teika", "Tuhanuku", "Sogavare", "Ofasia", "Irofufuli", "Wate"},
	},
	{
		code: "VUT", prefix: "VU", share: 25, dial: "+678", mobile: "5", digits: 7,
		islands: []island{
			{"Efate", []string{"Mele", "Erakor", "Pango", "Eton", "Epule", "Siviri", "Lelepa", "Paunangisu", "Eratap", "Teouma", "Onesua"}},
			{"Espiritu Santo", []string{"Luganville", "Hog Harbour", "Port Olry", "Fanafo", "Matantas", "Big Bay", "Tangoa", "Wusi", "Kole", "Natawa"}},
			{"Malekula", []string{"Lakatoro", "Norsup", "Litzlitz", "Wala", "Rano", "Lamap", "South West Bay", "Unmet", "Brenwei", "Tautu"}},
			{"Tanna", []string{"Isangel", "Lenakel", "Yaohnanen", "Whitesands", "Port Resolution", "Ipai", "Middle Bush", "Green Hill"}},
			{"Ambae", []string{"Saratamata", "Lolowai", "Walaha", "Nduindui", "Redcliff"}},
			{"Pentecost", []string{"Loltong", "Melsisi", "Bunlap", "Pangi", "Laone"}},
			{"Ambrym", []string{"Craig Cove", "Ranon", "Magam", "Olal", "Endu"}},
			{"Epi", []string{"Lamen Bay", "Burumba", "Ponkovia"}},
		},
		female: []string{"Leisau", "Marie", "Lena", "Roslyn", "Annie", "Leiwia", "Merilyn", "Janet", "Votausi", "Flora", "Yvonne", "Leimara", "Nelly", "Touasi", "Serah", "Rolenas", "Madleen"},
		male:   []string{"Kalo", "Willie", "Jean-Paul", "Kalsakau", "Noel", "Isaac", "Pakoa", "Simeon", "Jonas", "Morris", "Kiel", "Nakou", "Eric", "Alick", "Sethy", "Tom", "François", "Rexley"},
		family: []string{"Kalsakau", "Tari", "Garae", "Nakat", "Iauko", "Natapei", "Vira", "Molisa", "Boulekone", "Kalorib", "Napuati", "Tabi", "Nalau", "Songi", "Malere", "Bule", "Vuti", "Loughman", "Kaltongga", "Toa", "Mera", "Willie"},
	},
}
