# Writes the file SOURCE as the C object NAME (struct asset) into OUTPUT.
file(READ ${SOURCE} hex HEX)
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${hex}")
string(REGEX REPLACE "(0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,0x..,)" "\\1\n" bytes "${bytes}")
file(WRITE ${OUTPUT} "#include \"admin/assets.h\"\n\nstatic const unsigned char bytes[] = {\n${bytes}};\n\n"
                     "const struct asset ${NAME} = {.data = bytes, .len = sizeof bytes};\n")
