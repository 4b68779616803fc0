/*
 * list.h
 *		The providers, each one file and one line here: PROVIDER(name, about).
 *
 * The name is that of its file, of its Provider (name_provider), and of its foreign-data
 * wrapper; "about" is the wrapper's comment.  Included wherever something is made for each
 * provider, with PROVIDER defined for that; "make" reads these lines too, for the SQL script.
 */
PROVIDER(esms, "eSMS (rest.esms.vn): brandname and fixed-number messages, one-time passwords")
PROVIDER(etelecom, "eTelecom Omni (omni.incom.vn): templates by ZNS, automatic call or SMS")
PROVIDER(interits, "Interits CPaaS (cpaas.interits.com): messages to one or many receivers")

#undef PROVIDER
