# shellcheck shell=sh
# Sourced: makes a second, third, ... node out of nginx-rtmp.conf, for one machine's loopback.
# nginx_instance CONF DIR RTMP_PORT HTTP_PORT prints a configuration that keeps everything below DIR.
nginx_instance()
{
    sed -e "s|^load_module modules/|load_module /usr/lib/nginx/modules/|" \
        -e "s|^user .*|# user: the caller's|" \
        -e "s|^pid .*|pid $2/nginx.pid;|" \
        -e "s|^error_log .*|error_log $2/error.log notice;|" \
        -e "s|listen 1935 |listen 127.0.0.1:$3 |" \
        -e "s|listen 8080;|listen 127.0.0.1:$4;|" \
        -e "s|^http {|http { client_body_temp_path $2/tmp; proxy_temp_path $2/tmp; fastcgi_temp_path $2/tmp; uwsgi_temp_path $2/tmp; scgi_temp_path $2/tmp;|" \
        "$1"
}
