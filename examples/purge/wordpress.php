<?php
/**
 * Plugin Name: isr-proxy purge
 * Description: Tells isr-proxy which pages are new when a post is published, changed or taken away.
 *
 * Save it as wp-content/mu-plugins/isr-proxy.php, and in wp-config.php write:
 *
 *   define( 'ISR_ADMIN_URL', 'http://127.0.0.1:8081' );
 *   define( 'ISR_ADMIN_TOKEN', '32 characters or more' );
 */

defined( 'ABSPATH' ) || exit;

$GLOBALS['isr_proxy_queued'] = array();

/** Queue paths; they are purged together when the request ends. */
function isr_proxy_queue( ...$paths ) {
	foreach ( $paths as $path ) {
		$GLOBALS['isr_proxy_queued'][ $path ] = true;
	}
}

add_action( 'shutdown', function () {
	$paths = array_keys( $GLOBALS['isr_proxy_queued'] );
	if ( $paths ) {
		isr_proxy_purge( array( 'paths' => $paths ) );
	}
} );

/** Purge what the selectors name; a proxy that is away never fails a save. */
function isr_proxy_purge( $selectors ) {
	$answer = wp_remote_post( ISR_ADMIN_URL . '/v1/purge', array(
		'timeout' => 5,
		'headers' => array(
			'Authorization' => 'Bearer ' . ISR_ADMIN_TOKEN,
			'Content-Type'  => 'application/json',
		),
		'body'    => wp_json_encode( $selectors ),
	) );
	$status = is_wp_error( $answer ) ? $answer->get_error_message() : wp_remote_retrieve_response_code( $answer );
	if ( 200 !== $status ) {
		error_log( 'isr-proxy: not purged, ' . $status );
	}
}

/** The path of a URL: paths are purged for every host and scheme that the proxy serves. */
function isr_proxy_path( $url ) {
	$path  = wp_parse_url( (string) $url, PHP_URL_PATH );
	$query = wp_parse_url( (string) $url, PHP_URL_QUERY );
	return ( $path ? $path : '/' ) . ( $query ? '?' . $query : '' );
}

add_action( 'transition_post_status', function ( $new, $old, $post ) {
	if ( 'publish' !== $new && 'publish' !== $old ) {
		return;
	}
	$permalink = str_replace( '__trashed', '', (string) get_permalink( $post ) );
	isr_proxy_queue(
		isr_proxy_path( $permalink ),
		isr_proxy_path( home_url( '/' ) ),
		isr_proxy_path( get_feed_link() )
	);
}, 10, 3 );

add_action( 'comment_post', function ( $comment_id, $approved ) {
	if ( 1 === $approved ) {
		isr_proxy_queue( isr_proxy_path( get_permalink( get_comment( $comment_id )->comment_post_ID ) ) );
	}
}, 10, 2 );

// A new theme, menu or widget changes every page.
foreach ( array( 'switch_theme', 'wp_update_nav_menu', 'customize_save_after' ) as $isr_proxy_event ) {
	add_action( $isr_proxy_event, function () {
		isr_proxy_purge( array( 'all' => true, 'soft' => true ) );
	} );
}
